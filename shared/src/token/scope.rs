//! The scopes of ACS, and the set of scopes of a token.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One permission of a token (docs/wire-contract.md#schemas and docs/wire-contract.md#scopes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    Chat,
    ChatJoin,
    ChatJoinLimited,
    Voip,
    VoipJoin,
}

/// One to five scopes in request order, without duplicates. The set is never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSet(Vec<Scope>);

/// The reason why a list of scope names is not a scope set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    #[error("the list of scopes is empty")]
    Empty,
    #[error("unknown scope {0:?}")]
    Unknown(String),
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 5] =
        [Self::Chat, Self::Voip, Self::ChatJoin, Self::ChatJoinLimited, Self::VoipJoin];

    /// The scope's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::ChatJoin => "chat.join",
            Self::ChatJoinLimited => "chat.join.limited",
            Self::Voip => "voip",
            Self::VoipJoin => "voip.join",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(name: &str) -> Result<Self, ScopeError> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == name)
            .ok_or_else(|| ScopeError::Unknown(name.to_owned()))
    }
}

impl ScopeSet {
    /// The set of the scopes with these names.
    ///
    /// # Errors
    /// [`ScopeError::Empty`] for an empty list, [`ScopeError::Unknown`] with the first unknown name.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, ScopeError> {
        let mut scopes = Vec::new();
        for name in names {
            let scope = name.parse()?;
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        if scopes.is_empty() { Err(ScopeError::Empty) } else { Ok(Self(scopes)) }
    }

    /// The set of these scopes. `None` for an empty slice.
    #[must_use]
    pub fn of(scopes: &[Scope]) -> Option<Self> {
        Self::parse(scopes.iter().map(|scope| scope.as_str())).ok()
    }

    /// The scopes' names in request order.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|scope| scope.as_str()).collect()
    }

    /// The form of RFC 8693 section 4.2: names joined by spaces.
    #[must_use]
    pub fn spaced(&self) -> String {
        self.names().join(" ")
    }

    /// The scopes in request order.
    pub fn iter(&self) -> impl Iterator<Item = Scope> {
        self.0.iter().copied()
    }
}

/// The form of the claim `acsScope`: names joined by commas.
impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            scope.fmt(f)?;
        }
        Ok(())
    }
}

impl FromStr for ScopeSet {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        Self::parse(text.split(','))
    }
}

impl Serialize for ScopeSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads the claim as this service writes it. So no scope is named twice.
impl<'de> Deserialize<'de> for ScopeSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let set: Self = text.parse().map_err(D::Error::custom)?;
        if set.to_string() == text { Ok(set) } else { Err(D::Error::custom("a scope is named twice")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_order_is_kept_and_duplicates_are_dropped() {
        let set = ScopeSet::parse(["voip", "chat", "voip", "chat.join.limited", "chat"]).unwrap();
        assert_eq!(set.to_string(), "voip,chat,chat.join.limited");
    }

    #[test]
    fn other_names_are_not_scopes() {
        for name in ["", "Chat", "CHAT", " chat", "chat.", "chat.joi", "chat.join.limited2", "voip,chat"] {
            assert_eq!(name.parse::<Scope>(), Err(ScopeError::Unknown(name.to_owned())));
        }
        assert_eq!(ScopeSet::parse([]), Err(ScopeError::Empty));
        assert_eq!("".parse::<ScopeSet>(), Err(ScopeError::Unknown(String::new())));
    }

    #[test]
    fn a_set_is_written_and_read_as_a_comma_list() {
        for (names, text) in [
            (&["chat"][..], "chat"),
            (&["voip.join", "voip"], "voip.join,voip"),
            (
                &["chat", "voip", "chat.join", "chat.join.limited", "voip.join"],
                "chat,voip,chat.join,chat.join.limited,voip.join",
            ),
        ] {
            let set = ScopeSet::parse(names.iter().copied()).unwrap();
            assert_eq!(set.names(), names);
            assert_eq!(set.to_string(), text);
            assert_eq!(serde_json::to_string(&set).unwrap(), format!("{text:?}"));
            assert_eq!(text.parse(), Ok(set.clone()));
            assert_eq!(serde_json::from_str::<ScopeSet>(&format!("{text:?}")).unwrap(), set);
        }
        for text in ["chat,chat", "chat,voip,chat", "chat,", ",chat", "chat, voip", "chat,,voip", ""] {
            assert!(serde_json::from_str::<ScopeSet>(&format!("{text:?}")).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_set_is_written_in_its_order(picks in prop::collection::vec(0_usize..5, 1..20)) {
            const NAMES: [&str; 5] = ["chat", "voip", "chat.join", "chat.join.limited", "voip.join"];
            let mut expected: Vec<&str> = Vec::new();
            for pick in picks.iter().map(|pick| NAMES[*pick]) {
                if !expected.contains(&pick) {
                    expected.push(pick);
                }
            }
            let set = ScopeSet::parse(picks.iter().map(|pick| NAMES[*pick])).unwrap();
            prop_assert_eq!(set.to_string(), expected.join(","));
            prop_assert_eq!(set.spaced(), expected.join(" "));
            prop_assert_eq!(expected.join(",").parse(), Ok(set));
        }
    }
}
