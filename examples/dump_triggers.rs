use driftless::capture::{self, Table};
fn main() {
    let sql = std::env::args().nth(1).unwrap();
    let db = rusqlite::Connection::open_in_memory().unwrap();
    db.execute_batch(&sql).unwrap();
    let cat = capture::Catalog::read(&db).unwrap();
    let all: Vec<&Table> = cat.tables.iter().collect();
    for t in &all {
        for tr in capture::triggers(t, &all) {
            println!("{};", tr.sql);
        }
    }
}
