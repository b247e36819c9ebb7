//! What each scope permits: the capability matrix, and nothing else that grants anything
//! (docs/wire-contract.md#scopes; the ACS identity model's two tables).
//!
//! A token with several scopes permits what any of them permits. What is not in the table has no name here,
//! and so cannot be permitted.

use std::fmt;
use std::str::FromStr;

use crate::token::scope::{Scope, ScopeSet};

/// Something a client may want to do in a chat or a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    ChatCreateThread,
    ChatUpdateThread,
    ChatDeleteThread,
    ChatAddParticipant,
    ChatRemoveParticipant,
    ChatListThreads,
    ChatGetThread,
    ChatListReadReceipts,
    ChatSendReadReceipt,
    ChatSendMessage,
    /// One message, or the list of them.
    ChatGetMessage,
    /// One's own; whose it is the resource server knows.
    ChatUpdateMessage,
    /// One's own; whose it is the resource server knows.
    ChatDeleteMessage,
    ChatSendTypingNotification,
    ChatListParticipants,
    VoipStartCall,
    /// In a room one was invited to; who was, the resource server knows.
    VoipStartRoomCall,
    VoipJoinCall,
    /// In a room one was invited to; who was, the resource server knows.
    VoipJoinRoomCall,
    /// Every other operation in a call: mute, share the screen, and so on.
    VoipActInCall,
    /// The same in a room's call.
    VoipActInRoomCall,
}

/// What a token's scopes say of a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permit {
    Refused,
    /// The user's role in the room decides; the resource server knows it.
    ByRoomRole,
    Granted,
}

/// Not the name of a capability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability")]
pub struct UnknownCapabilityError;

const N: Permit = Permit::Refused;
const R: Permit = Permit::ByRoomRole;
const Y: Permit = Permit::Granted;

/// The columns of [`MATRIX`].
const COLUMNS: [Scope; 5] =
    [Scope::Chat, Scope::ChatJoin, Scope::ChatJoinLimited, Scope::Voip, Scope::VoipJoin];

/// The matrix.
#[rustfmt::skip]
const MATRIX: [(Capability, &str, [Permit; 5]); 21] = [
    //                                                                            chat           voip
    //                                                                       chat .join .limited voip .join
    (Capability::ChatCreateThread,           "chat.create_thread",            [Y, N, N,          N, N]),
    (Capability::ChatUpdateThread,           "chat.update_thread",            [Y, N, N,          N, N]),
    (Capability::ChatDeleteThread,           "chat.delete_thread",            [Y, N, N,          N, N]),
    (Capability::ChatAddParticipant,         "chat.add_participant",          [Y, Y, N,          N, N]),
    (Capability::ChatRemoveParticipant,      "chat.remove_participant",       [Y, Y, N,          N, N]),
    (Capability::ChatListThreads,            "chat.list_threads",             [Y, Y, Y,          N, N]),
    (Capability::ChatGetThread,              "chat.get_thread",               [Y, Y, Y,          N, N]),
    (Capability::ChatListReadReceipts,       "chat.list_read_receipts",       [Y, Y, Y,          N, N]),
    (Capability::ChatSendReadReceipt,        "chat.send_read_receipt",        [Y, Y, Y,          N, N]),
    (Capability::ChatSendMessage,            "chat.send_message",             [Y, Y, Y,          N, N]),
    (Capability::ChatGetMessage,             "chat.get_message",              [Y, Y, Y,          N, N]),
    (Capability::ChatUpdateMessage,          "chat.update_message",           [Y, Y, Y,          N, N]),
    (Capability::ChatDeleteMessage,          "chat.delete_message",           [Y, Y, Y,          N, N]),
    (Capability::ChatSendTypingNotification, "chat.send_typing_notification", [Y, Y, Y,          N, N]),
    (Capability::ChatListParticipants,       "chat.list_participants",        [Y, Y, Y,          N, N]),
    (Capability::VoipStartCall,              "voip.start_call",               [N, N, N,          Y, N]),
    (Capability::VoipStartRoomCall,          "voip.start_room_call",          [N, N, N,          Y, Y]),
    (Capability::VoipJoinCall,               "voip.join_call",                [N, N, N,          Y, Y]),
    (Capability::VoipJoinRoomCall,           "voip.join_room_call",           [N, N, N,          Y, Y]),
    (Capability::VoipActInCall,              "voip.act_in_call",              [N, N, N,          Y, Y]),
    (Capability::VoipActInRoomCall,          "voip.act_in_room_call",         [N, N, N,          R, R]),
];

impl Capability {
    /// Every capability, in the order of the matrix.
    pub fn all() -> impl Iterator<Item = Self> {
        MATRIX.iter().map(|(capability, ..)| *capability)
    }

    /// The capability's name in settings, replies and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().map_or("", |(_, name, _)| name)
    }

    /// What these scopes say of it.
    #[must_use]
    pub fn permit(self, scopes: &ScopeSet) -> Permit {
        scopes.iter().map(|scope| self.permit_of(scope)).max().unwrap_or(Permit::Refused)
    }

    /// The names of all capabilities that these scopes permit in this way.
    #[must_use]
    pub fn names(scopes: &ScopeSet, permit: Permit) -> Vec<&'static str> {
        Self::all().filter(|capability| capability.permit(scopes) == permit).map(Self::as_str).collect()
    }

    fn permit_of(self, scope: Scope) -> Permit {
        let column = COLUMNS.iter().position(|column| *column == scope);
        let permit = self.row().zip(column).and_then(|((.., permits), column)| permits.get(column));
        permit.copied().unwrap_or(Permit::Refused)
    }

    fn row(self) -> Option<&'static (Self, &'static str, [Permit; 5])> {
        MATRIX.iter().find(|(capability, ..)| *capability == self)
    }
}

impl FromStr for Capability {
    type Err = UnknownCapabilityError;

    fn from_str(name: &str) -> Result<Self, UnknownCapabilityError> {
        let row = MATRIX.iter().find(|(_, known, _)| *known == name);
        row.map(|(capability, ..)| *capability).ok_or(UnknownCapabilityError)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(scopes: &[Scope], permit: Permit) -> Vec<&'static str> {
        Capability::names(&ScopeSet::of(scopes).unwrap(), permit)
    }

    /// The identity model's tables, counted by hand: 15 and 6 rows.
    #[test]
    fn each_scope_permits_what_the_identity_model_says() {
        let granted = |scope| permitted(&[scope], Permit::Granted).len();
        let by_role = |scope| permitted(&[scope], Permit::ByRoomRole);
        assert_eq!(COLUMNS.map(granted), [15, 12, 10, 5, 4]);
        for scope in [Scope::Chat, Scope::ChatJoin, Scope::ChatJoinLimited] {
            assert!(by_role(scope).is_empty());
        }
        for scope in [Scope::Voip, Scope::VoipJoin] {
            assert_eq!(by_role(scope), ["voip.act_in_room_call"]);
        }
        let join = permitted(&[Scope::ChatJoin], Permit::Refused);
        assert_eq!(join[..3], ["chat.create_thread", "chat.update_thread", "chat.delete_thread"]);
        let limited = permitted(&[Scope::ChatJoinLimited], Permit::Refused);
        assert_eq!(limited[3..5], ["chat.add_participant", "chat.remove_participant"]);
        assert!(permitted(&[Scope::VoipJoin], Permit::Refused).contains(&"voip.start_call"));
    }

    #[test]
    fn several_scopes_permit_what_any_of_them_permits() {
        let both = ScopeSet::of(&[Scope::ChatJoinLimited, Scope::VoipJoin]).unwrap();
        for capability in Capability::all() {
            let either = both.iter().map(|scope| capability.permit_of(scope)).max().unwrap();
            assert_eq!(capability.permit(&both), either, "{capability}");
        }
        assert_eq!(permitted(&[Scope::ChatJoinLimited, Scope::Chat], Permit::Granted).len(), 15);
    }

    #[test]
    fn the_names_are_those_of_the_openapi_document() {
        let document: serde_json::Value =
            serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
        let names: Vec<_> = Capability::all().map(Capability::as_str).collect();
        assert_eq!(document["components"]["schemas"]["Capability"]["enum"], serde_json::json!(names));
    }

    #[test]
    fn names_are_closed_and_their_own() {
        let mut names: Vec<_> = Capability::all().map(Capability::as_str).collect();
        for name in &names {
            assert_eq!(name.parse::<Capability>().unwrap().as_str(), *name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 21);
        for unknown in ["", "chat", "chat.create", "Chat.create_thread", "chat.create_thread ", "voip.*"] {
            assert_eq!(unknown.parse::<Capability>(), Err(UnknownCapabilityError), "{unknown}");
        }
    }
}
