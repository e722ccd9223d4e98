//! Migrations by the application that embeds the replicator.

use crate::error::Result;
use crate::inspect::{Connection, Migration, Rename};
use crate::replicator::Replicator;

impl Replicator {
    /// Migrates the database in one transaction: `work` changes the schema and the rows, and what
    /// it writes is replicated like any other write. The capture triggers are out of its way, and
    /// foreign keys are not enforced while it runs; rows that refer to nothing afterwards are an
    /// error. Renamed columns are recognised where `work` uses `ALTER TABLE … RENAME COLUMN`.
    ///
    /// ```no_run
    /// # fn example(replicator: driftless::Replicator) -> driftless::Result<()> {
    /// replicator.migrate(|db| {
    ///     db.execute_batch(
    ///         "ALTER TABLE members ADD COLUMN phone TEXT;
    ///          ALTER TABLE members RENAME COLUMN notes TO remarks;",
    ///     )?;
    ///     Ok(())
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What `work` returns; `Usage` when it has ended the transaction or left rows that refer to
    /// nothing; `Storage` when the database fails. Then nothing has changed.
    pub fn migrate<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.migrate_renaming(&[], work)
    }

    /// The same for a migration that renames columns in another way, for example by a table that is
    /// made anew: it is told which.
    ///
    /// # Errors
    ///
    /// As there, and `Usage` when a renamed column is not there afterwards.
    pub fn migrate_renaming<T>(
        &self,
        renames: &[Rename],
        work: impl FnOnce(&Connection) -> Result<T>,
    ) -> Result<T> {
        let done = self.migration().transact(renames, work)?;
        self.handle.ring();
        Ok(done)
    }

    /// Takes the capture triggers out of the way of a migration that another program runs, or that
    /// takes several transactions. Until [`Replicator::end_migration`] nothing is pushed and
    /// nothing is integrated. What is written meanwhile is found afterwards. After 15 minutes it
    /// counts as ended, unless this is called again.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn begin_migration(&self) -> Result<()> {
        self.migration().begin()?;
        self.handle.ring();
        Ok(())
    }

    /// Ends a migration: the triggers are made again. `renames` are columns that were renamed in
    /// another way than by `ALTER TABLE … RENAME COLUMN`.
    ///
    /// # Errors
    ///
    /// `Usage` when a renamed column is not there, or its old name still is; then the migration has
    /// not ended. `Storage` when the database fails.
    pub fn end_migration(&self, renames: &[Rename]) -> Result<()> {
        self.migration().end(renames)?;
        self.handle.ring();
        Ok(())
    }

    fn migration(&self) -> Migration {
        Migration::of(&self.path).connecting(&self.on_connect)
    }
}
