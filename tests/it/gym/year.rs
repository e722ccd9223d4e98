//! The generated year.

use ulid::Ulid;

use super::*;

/// What holds in every year, whatever its size and seed.
fn assert_plausible(db: &Connection) {
    let wrong = "SELECT count(*) FROM payments JOIN members ON members.id = member_id
                 LEFT JOIN plans ON plans.id = payments.plan_id
                 WHERE paid_at < joined_at OR (kind = 'membership') <> (plans.id IS NOT NULL)
                    OR amount_cents <> coalesce(price_cents, amount_cents)";
    assert_eq!(count(db, wrong), 0, "payments that do not follow the membership");
    let early = "SELECT count(*) FROM attendance JOIN members ON members.id = member_id
                 WHERE checked_in_at < joined_at";
    assert_eq!(count(db, early), 0, "visits before joining");
    for (table, column) in
        [("members", "joined_at"), ("payments", "paid_at"), ("attendance", "checked_in_at")]
    {
        let late = format!(
            "SELECT count(*) FROM {table} WHERE {column} NOT BETWEEN '2022' AND '2026'
               OR {column} NOT GLOB '????-??-??T??:??:??.???Z'"
        );
        assert_eq!(count(db, &late), 0, "{table} out of its time");
    }
}

#[test]
fn the_default_year_is_the_same_everywhere() {
    let db = default_year();
    assert_eq!(fingerprint(&db), DEFAULT_YEAR);
    assert_plausible(&db);
    let sizes = [
        ("members", 500),
        ("payments", 6_000),
        ("attendance", 20_000),
        ("plans", 6),
        ("trainers", 8),
        ("classes", 24),
        ("equipment", 40),
    ];
    for (table, rows) in sizes {
        assert_eq!(count(&db, &format!("SELECT count(*) FROM {table}")), rows, "{table}");
    }
}

#[test]
fn a_seed_gives_one_year_and_another_seed_another() {
    let (_, members, payments, checkins) = SMALL;
    let first = fingerprint(&generated(SMALL));
    assert_eq!(first, fingerprint(&generated(SMALL)));
    let other = fingerprint(&generated((8, members, payments, checkins)));
    assert_ne!(first, other);
}

#[test]
fn any_size_is_generated_exactly() {
    // None at all; fewer payments than fall due; more check-ins than one a day; a seed of 64 bits.
    let sizes: [Size; 5] = [
        (1, 1, 0, 0),
        (2, 40, 25, 10),
        (3, 10, 2_000, 5_000),
        (i64::MIN, 30, 100, 300),
        (i64::MAX, 1_500, 15_000, 1_000),
    ];
    for size in sizes {
        let db = generated(size);
        assert_eq!(count(&db, "SELECT count(*) FROM members"), size.1, "{size:?}");
        assert_eq!(count(&db, "SELECT count(*) FROM payments"), size.2, "{size:?}");
        assert_eq!(count(&db, "SELECT count(*) FROM attendance"), size.3, "{size:?}");
        assert_eq!(count(&db, "SELECT count(*) FROM temp.sqlite_schema"), 0, "nothing is left");
        assert_sound(&db);
        assert_plausible(&db);
    }
}

#[test]
fn keys_are_ulids_of_the_time_of_the_row() {
    let db = default_year();
    for (table, column) in [("members", "joined_at"), ("payments", "paid_at")] {
        let sql = format!(
            "SELECT id, CAST(strftime('%s', {column}) AS INTEGER) * 1000
                        + CAST(substr({column}, 21, 3) AS INTEGER) FROM {table}"
        );
        for (id, ms) in counts(&db, &sql) {
            let ulid = Ulid::from_string(&id).unwrap();
            assert_eq!(ulid.to_string(), id);
            assert_eq!(i64::try_from(ulid.timestamp_ms()).unwrap(), ms, "{table} {id}");
        }
    }
}

#[test]
fn members_look_like_people() {
    let db = default_year();
    assert_sound(&db);
    let total = count(&db, "SELECT count(email) FROM members");
    let distinct = count(&db, "SELECT count(DISTINCT lower(email)) FROM members");
    assert_eq!(total, distinct);
    let members = |condition: &str| {
        let found = count(&db, &format!("SELECT count(*) FROM members WHERE {condition}"));
        assert!(found > 0, "{condition}");
        found
    };
    for nullable in ["email", "phone", "plan_id", "photo", "notes"] {
        members(&format!("{nullable} IS NULL"));
    }
    for name in ["José%", "Zoë%", "Łukasz%", "%Nguyễn", "%O'Connor"] {
        members(&format!("name LIKE '{}'", name.replace('\'', "''")));
    }
    for note in ["%''%", "%\"%", "%🏋️%", "%;%", "%--%", "%\\%", "%' || char(10) || '%"] {
        members(&format!("notes LIKE '{note}'"));
    }
    members("email <> lower(email) COLLATE BINARY");
    members("notes = ''");
    let cancelled = members("status = 'cancelled'");
    let frozen = members("status = 'frozen'");
    assert!(cancelled + frozen < 150, "most are active");

    let photos = members("photo IS NOT NULL");
    assert!((130..200).contains(&photos), "{photos} photos");
    let head = "hex(substr(photo, 1, 3)) = 'FFD8FF' AND hex(substr(photo, -2)) = 'FFD9'";
    let kept = members(&format!(
        "typeof(photo) = 'blob' AND length(photo) BETWEEN 100 AND 2000 AND {head}"
    ));
    assert_eq!(kept, photos);
    assert_eq!(count(&db, "SELECT count(DISTINCT photo) FROM members"), photos);
}

#[test]
fn people_join_in_january_and_in_september() {
    let db = default_year();
    let joins = counts(
        &db,
        "SELECT substr(joined_at, 6, 2), count(*) FROM members WHERE joined_at >= '2025'
         GROUP BY 1 ORDER BY 2 DESC",
    );
    assert_eq!(joins.len(), 12, "{joins:?}");
    assert_eq!(joins[0].0, "01");
    assert_eq!(joins[1].0, "09");
    assert!(joins[0].1 * 5 > joins.iter().map(|month| month.1).sum(), "{joins:?}");
    assert!(count(&db, "SELECT count(*) FROM members WHERE joined_at < '2025'") > 150);
}

#[test]
fn payments_follow_the_plan_and_the_membership() {
    let db = default_year();
    let months = counts(&db, "SELECT substr(paid_at, 1, 7), count(*) FROM payments GROUP BY 1");
    assert_eq!(months.len(), 12);
    assert!(months.iter().all(|(month, n)| month.starts_with("2025-") && *n > 300), "{months:?}");

    // Whoever has a plan by the month pays it once a month, a second attempt aside.
    let twice = "SELECT count(*) FROM (
                   SELECT 1 FROM payments WHERE kind = 'membership' AND status <> 'failed'
                   GROUP BY member_id, substr(paid_at, 1, 7) HAVING count(*) > 2)";
    assert_eq!(count(&db, twice), 0);
    let monthly = "SELECT count(*) FROM (
                     SELECT count(DISTINCT substr(paid_at, 1, 7)) AS months
                     FROM payments JOIN members ON members.id = member_id
                     JOIN plans ON plans.id = members.plan_id
                     WHERE kind = 'membership' AND joined_at < '2025' AND members.status = 'active'
                       AND plans.months = 1
                     GROUP BY member_id) WHERE months <> 12";
    assert_eq!(count(&db, monthly), 0);
    let after = "SELECT count(*) FROM payments JOIN members ON members.id = member_id
                 WHERE kind = 'membership' AND payments.status <> 'failed'
                   AND members.status <> 'active'
                   AND paid_at > strftime('%Y-%m-%d', updated_at, '+7 days')";
    assert_eq!(count(&db, after), 0);
    for (status, least) in [("failed", 50), ("refunded", 30)] {
        let sql = "SELECT count(*) FROM payments WHERE status = ?1 AND note IS NOT NULL";
        let found = count_with(&db, sql, [status]);
        assert!((least..300).contains(&found), "{found} {status}");
    }
}

#[test]
fn check_ins_have_the_pattern_of_a_week_and_a_day() {
    let db = default_year();
    let by = |format: &str| -> Vec<i64> {
        let sql = format!(
            "SELECT strftime('{format}', checked_in_at), count(*) FROM attendance
             GROUP BY 1 ORDER BY 1"
        );
        counts(&db, &sql).into_iter().map(|(_, n)| n).collect()
    };
    let week = by("%w");
    assert_eq!(week.len(), 7);
    assert!(week[1] > 2 * week[0], "Mondays are full and Sundays are not: {week:?}");
    assert!(week[1] > week[5] && week[5] > week[0], "{week:?}");
    let months = by("%m");
    assert_eq!(months.len(), 12);
    assert!(months[8] > months[7] * 5 / 4, "September after August: {months:?}");
    let hour = |hour: &str| {
        let sql = "SELECT count(*) FROM attendance WHERE strftime('%H', checked_in_at) = ?1";
        count_with(&db, sql, [hour])
    };
    assert!(hour("17") > 3 * hour("14"), "after work");
    assert_eq!(hour("03"), 0);
    for closed in ["2025-01-01", "2025-12-25"] {
        let sql = "SELECT count(*) FROM attendance WHERE checked_in_at LIKE ?1 || '%'";
        assert_eq!(count_with(&db, sql, [closed]), 0, "{closed}");
    }
}

#[test]
fn zeal_wears_off_and_classes_are_on_the_timetable() {
    let db = default_year();
    // Visits in the first four weeks, and in four weeks half a year later, of the same people.
    let visits = |from: i64, until: i64| {
        let sql = "SELECT count(*) FROM attendance JOIN members ON members.id = member_id
                   WHERE joined_at BETWEEN '2025-01-01' AND '2025-04-01' AND status = 'active'
                     AND julianday(checked_in_at) - julianday(joined_at) BETWEEN ?1 AND ?2";
        count_with(&db, sql, (from, until))
    };
    let (first, later) = (visits(0, 28), visits(182, 210));
    assert!(first * 2 > later * 3, "{first} then {later}");

    let booked = count(&db, "SELECT count(class_id) FROM attendance");
    assert!((5_000..8_000).contains(&booked), "{booked}");
    let astray = "SELECT count(*) FROM attendance JOIN classes ON classes.id = class_id
                  WHERE weekday <> CAST(strftime('%w', checked_in_at) AS INTEGER)
                     OR substr(checked_in_at, 12, 5) >= starts
                     OR substr(checked_in_at, 12, 5) < strftime('%H:%M', starts, '-20 minutes')";
    assert_eq!(count(&db, astray), 0);
    assert_eq!(count(&db, "SELECT count(DISTINCT class_id) FROM attendance"), 24);
    assert!(count(&db, "SELECT count(*) FROM attendance WHERE minutes IS NULL") > 1_000);
    assert!(count(&db, "SELECT count(*) FROM equipment WHERE typeof(weight_kg) = 'real'") > 30);
}
