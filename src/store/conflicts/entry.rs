//! What the inbox says of a conflict.

/// How a local event lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConflictKind {
    /// Another writer changed the row first.
    Conflict,
    /// Two rows were inserted with one key: two different things.
    Collision,
    /// It broke a constraint.
    Rejected,
}

impl ConflictKind {
    pub(super) fn read(word: &str) -> Self {
        match word {
            "collision" => ConflictKind::Collision,
            "rejected" => ConflictKind::Rejected,
            _ => ConflictKind::Conflict,
        }
    }

    /// The word for it, in the command and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            ConflictKind::Conflict => "conflict",
            ConflictKind::Collision => "collision",
            ConflictKind::Rejected => "rejected",
        }
    }
}

/// What has been done about a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConflictState {
    /// Nothing yet.
    Open,
    /// Its values were written again.
    Restored,
    /// A person took it off the list.
    Dismissed,
    /// What it wanted is in the remote's row: another event brought it.
    Moot,
}

impl ConflictState {
    /// The word for it, in the command and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            ConflictState::Open => "open",
            ConflictState::Restored => "restored",
            ConflictState::Dismissed => "dismissed",
            ConflictState::Moot => "moot",
        }
    }

    pub(super) fn read(word: &str) -> Self {
        match word {
            "restored" => ConflictState::Restored,
            "dismissed" => ConflictState::Dismissed,
            "moot" => ConflictState::Moot,
            _ => ConflictState::Open,
        }
    }
}
