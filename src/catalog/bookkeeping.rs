//! Tables that a tool keeps for itself in an application's database.
//!
//! A migration tool records in a table which steps have run on a database. The two sides have run
//! different steps. If such a record were replicated before its step runs on the other side, the
//! tool there would skip the step. So these tables are not replicated unless they are named.

/// The tables and the tools that create them. A `*` at the end matches any rest of a name.
///
/// Sources: the documentation and the source of each tool.
///
/// | tool | names, and their source |
/// | --- | --- |
/// | Prisma | `_prisma_migrations`: prisma.io/docs, "About the migration history" |
/// | Drizzle | `__drizzle_migrations`: orm.drizzle.team, `migrations.table` |
/// | Knex | `knex_migrations`, `knex_migrations_lock`: knexjs.org, `migrations.tableName` |
/// | Kysely | `kysely_migration`, `kysely_migration_lock`: kysely's `migrator.ts` |
/// | MikroORM | `mikro_orm_migrations`: mikro-orm.io/docs/migrations, `tableName` |
/// | Sequelize, Umzug | `SequelizeMeta`, `SequelizeData`: umzug's `storage/sequelize.ts` |
/// | Alembic | `alembic_version`: alembic.sqlalchemy.org, `version_table` |
/// | yoyo | `_yoyo_*`, `yoyo_lock`: ollycope.com/software/yoyo, `migration_table` |
/// | Django | `django_migrations`: django's `db/migrations/recorder.py` |
/// | Aerich, peewee | `aerich`: its `models.py`; `migratehistory`: peewee_migrate's `models.py` |
/// | Rails | `schema_migrations`, `ar_internal_metadata`: activerecord's `schema_migration.rs` |
/// | dbmate, golang-migrate, Ecto | `schema_migrations` |
/// | sqlx | `_sqlx_migrations`: sqlx-core's `migrate` |
/// | Diesel | `__diesel_schema_migrations`: diesel's `migration.rs` |
/// | refinery | `refinery_schema_history`: refinery-core's `traits/mod.rs` |
/// | SeaORM | `seaql_migrations`: sea-orm-migration's `seaql_migrations.rs` |
/// | goose | `goose_db_version`: pressly/goose's `goose.go` |
/// | Atlas | `atlas_schema_revisions`: atlasgo.io, `--revisions-schema` |
/// | Bun (Go) | `bun_migrations`, `bun_migration_locks`: bun.uptrace.dev/guide/migrations.html |
/// | sql-migrate | `gorp_migrations`: rubenv/sql-migrate's `migrate.go` |
/// | EF Core | `__EFMigrationsHistory`, `__EFMigrationsLock`: learn.microsoft.com/ef/core |
/// | Flyway | `flyway_schema_history`, once `schema_version`: `flyway.table` |
/// | Liquibase | `DATABASECHANGELOG`, `DATABASECHANGELOGLOCK`: docs.liquibase.com |
/// | Phinx, CakePHP | `phinxlog`, `cake_migrations`: book.cakephp.org |
/// | Doctrine | `doctrine_migration_versions`: doctrine-migrations' configuration |
/// | Cloudflare D1 | `d1_migrations`, `_cf_KV`, `_cf_METADATA`: developers.cloudflare.com/d1 |
/// | Room, Android | `room_master_table`, `android_metadata`: developer.android.com |
/// | Core Data | `Z_METADATA`, `Z_MODELCACHE`, `Z_PRIMARYKEY` |
/// | GRDB | `grdb_migrations`: GRDB's `DatabaseMigrator.swift` |
/// | Litestream | `_litestream_seq`, `_litestream_lock`: litestream.io |
/// | libSQL | `libsql_*`: `libsql_wasm_func_table`, `libsql_vector_meta_shadow` |
/// | ElectricSQL, PowerSync | `_electric_*`, `ps_migration`: their clients' own tables |
/// | Payload, Directus | `payload_migrations`, `directus_migrations`: their migration runners |
/// | Strapi | `strapi_migrations`, `strapi_migrations_internal` |
const TABLES: &[(&str, &str)] = &[
    ("_prisma_migrations", "Prisma"),
    ("__drizzle_migrations", "Drizzle"),
    ("knex_migrations", "Knex"),
    ("knex_migrations_lock", "Knex"),
    ("kysely_migration", "Kysely"),
    ("kysely_migration_lock", "Kysely"),
    ("mikro_orm_migrations", "MikroORM"),
    ("SequelizeMeta", "Sequelize"),
    ("SequelizeData", "Sequelize"),
    ("alembic_version", "Alembic"),
    ("_yoyo_migration", "yoyo"),
    ("_yoyo_log", "yoyo"),
    ("_yoyo_version", "yoyo"),
    ("yoyo_lock", "yoyo"),
    ("django_migrations", "Django"),
    ("aerich", "Aerich"),
    ("migratehistory", "peewee_migrate"),
    ("schema_migrations", "Rails, dbmate, golang-migrate or Ecto"),
    ("ar_internal_metadata", "Rails"),
    ("_sqlx_migrations", "sqlx"),
    ("__diesel_schema_migrations", "Diesel"),
    ("refinery_schema_history", "refinery"),
    ("seaql_migrations", "SeaORM"),
    ("goose_db_version", "goose"),
    ("atlas_schema_revisions", "Atlas"),
    ("bun_migrations", "Bun"),
    ("bun_migration_locks", "Bun"),
    ("__EFMigrationsHistory", "EF Core"),
    ("__EFMigrationsLock", "EF Core"),
    ("flyway_schema_history", "Flyway"),
    ("DATABASECHANGELOG", "Liquibase"),
    ("DATABASECHANGELOGLOCK", "Liquibase"),
    ("phinxlog", "Phinx"),
    ("cake_migrations", "CakePHP"),
    ("doctrine_migration_versions", "Doctrine"),
    ("d1_migrations", "Cloudflare D1"),
    ("_cf_KV", "Cloudflare D1"),
    ("_cf_METADATA", "Cloudflare D1"),
    ("room_master_table", "Room"),
    ("android_metadata", "Android"),
    ("Z_METADATA", "Core Data"),
    ("Z_MODELCACHE", "Core Data"),
    ("Z_PRIMARYKEY", "Core Data"),
    ("grdb_migrations", "GRDB"),
    ("_litestream_seq", "Litestream"),
    ("_litestream_lock", "Litestream"),
    ("libsql_*", "libSQL"),
    ("payload_migrations", "Payload"),
    ("directus_migrations", "Directus"),
    ("strapi_migrations*", "Strapi"),
    ("_electric_*", "ElectricSQL"),
    ("ps_migration", "PowerSync"),
    ("gorp_migrations", "sql-migrate"),
    ("schema_version", "Flyway before 5"),
];

/// Words that suggest bookkeeping in the names of other tables. `migrations` may be about birds, or
/// may belong to TypeORM or Laravel.
const WORDS: [&str; 6] =
    ["migration", "migrations", "schemaversion", "schemahistory", "changelog", "dbversion"];

/// The tool that uses this table for its bookkeeping, if there is one.
pub fn bookkeeper(table: &str) -> Option<&'static str> {
    let is = |name: &str| match name.strip_suffix('*') {
        Some(start) => table.get(..start.len()).is_some_and(|t| t.eq_ignore_ascii_case(start)),
        None => table.eq_ignore_ascii_case(name),
    };
    TABLES.iter().find(|(name, _)| is(name)).map(|(_, tool)| *tool)
}

/// Whether a table's name suggests bookkeeping although the name is not in the list.
pub fn may_be_bookkeeping(table: &str) -> bool {
    if bookkeeper(table).is_some() {
        return false;
    }
    let lower = table.to_ascii_lowercase();
    let words: Vec<_> = lower.split(['_', '-', ' ', '.']).filter(|word| !word.is_empty()).collect();
    let all = words.concat();
    words.iter().any(|word| WORDS[..2].contains(word)) || WORDS[2..].contains(&all.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f69_the_tables_of_tools_are_known_by_name() {
        for &(name, tool) in TABLES {
            let name = name.replace('*', "x");
            assert_eq!(bookkeeper(&name), Some(tool), "{name}");
            assert_eq!(bookkeeper(&name.to_uppercase()), Some(tool), "{name}");
            assert!(!may_be_bookkeeping(&name), "{name}");
        }
        for name in ["members", "knex", "prisma_migrations_of_birds", "libsq", "é", ""] {
            assert_eq!(bookkeeper(name), None, "{name}");
        }
    }

    #[test]
    fn f69_a_name_that_looks_like_one_is_a_hint() {
        for name in
            ["migrations", "migration", "db_version", "app_migrations", "typeorm_migrations"]
        {
            assert!(may_be_bookkeeping(name), "{name}");
        }
        for name in ["members", "immigration", "versions", "emigrations_of", "history"] {
            assert!(!may_be_bookkeeping(name), "{name}");
        }
    }
}
