//! The fields of an entry in the conflict inbox.

/// How a local event lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConflictKind {
    /// Another writer changed the row first.
    Conflict,
    /// Two rows were inserted with the same key: they are two different things.
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

    /// Its name in the command and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            ConflictKind::Conflict => "conflict",
            ConflictKind::Collision => "collision",
            ConflictKind::Rejected => "rejected",
        }
    }
}

/// What was done about a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConflictState {
    /// Nothing yet.
    Open,
    /// Its values were written again.
    Restored,
    /// A person took it off the list.
    Dismissed,
    /// Its effect is in the remote's row already: another event has brought it.
    Moot,
}

impl ConflictState {
    /// Its name in the command and in the database.
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
