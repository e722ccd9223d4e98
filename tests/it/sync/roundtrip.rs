//! Any table and any values, from one desk to another.

#[test]
fn placeholder() {}
