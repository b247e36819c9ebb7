//! The capability matrix: the capabilities that each scope permits.
//!
//! Its source is the two tables of the ACS identity model (docs/wire-contract.md#scopes). A token with several
//! scopes has the capabilities of each of them. A capability outside the matrix has no name, so no token has it.

use std::str::FromStr;

use crate::token::scope::{Scope, ScopeSet};

/// One action of a client in a chat or a call.
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
    /// Get one message, or list the messages.
    ChatGetMessage,
    /// Only the caller's own message. The resource server checks the ownership.
    ChatUpdateMessage,
    /// Only the caller's own message. The resource server checks the ownership.
    ChatDeleteMessage,
    ChatSendTypingNotification,
    ChatListParticipants,
    VoipStartCall,
    /// Only in a room that the caller was invited to. The resource server checks the invitation.
    VoipStartRoomCall,
    VoipJoinCall,
    /// Only in a room that the caller was invited to. The resource server checks the invitation.
    VoipJoinRoomCall,
    /// Any other operation in a call, for example mute or share the screen.
    VoipActInCall,
    /// Any other operation in the call of a room.
    VoipActInRoomCall,
}

/// The answer of a token's scopes about a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permit {
    Refused,
    /// The user's role in the room decides. The resource server checks the role.
    ByRoomRole,
    Granted,
}

/// The text is not the name of a capability.
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

    /// The highest permit that any of these scopes gives.
    #[must_use]
    pub fn permit(self, scopes: &ScopeSet) -> Permit {
        scopes.iter().map(|scope| self.permit_of(scope)).max().unwrap_or(Permit::Refused)
    }

    /// The names of the capabilities for which these scopes give exactly this permit.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(scopes: &[Scope], permit: Permit) -> Vec<&'static str> {
        Capability::names(&ScopeSet::of(scopes).unwrap(), permit)
    }

    /// The tables of the identity model have 15 and 6 rows. The counts are made by hand.
    #[test]
    fn single_scopes_permit_the_identity_model() {
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

    /// The kits for resource servers read this file.
    #[test]
    fn table_of_the_kits_equals_the_matrix() {
        let scopes = |row: &[Permit; 5], permit| -> Vec<&str> {
            let columns = COLUMNS.iter().zip(row);
            columns.filter(|(_, found)| **found == permit).map(|(scope, _)| scope.as_str()).collect()
        };
        let rows = MATRIX.iter().map(|(_, name, row)| {
            let (granted, by_room_role) = (scopes(row, Permit::Granted), scopes(row, Permit::ByRoomRole));
            ((*name).to_owned(), serde_json::json!({"granted": granted, "byRoomRole": by_room_role}))
        });
        let file = include_str!("../../../infra/kits/capabilities.json");
        let table: serde_json::Map<String, serde_json::Value> = serde_json::from_str(file).unwrap();
        assert_eq!(table, rows.collect());
    }

    /// Written by hand from the tables of the identity model.
    #[test]
    fn several_scopes_permit_the_union() {
        const CHAT: &str = "chat.create_thread chat.update_thread chat.delete_thread chat.add_participant \
            chat.remove_participant chat.list_threads chat.get_thread chat.list_read_receipts \
            chat.send_read_receipt chat.send_message chat.get_message chat.update_message chat.delete_message \
            chat.send_typing_notification chat.list_participants";
        const ROOM: &str = "voip.act_in_room_call";
        let rows: [(&[Scope], &str, &str); 4] = [
            (&[Scope::ChatJoinLimited, Scope::Chat], CHAT, ""),
            (
                &[Scope::ChatJoinLimited, Scope::ChatJoin],
                "chat.add_participant chat.remove_participant chat.list_threads chat.get_thread \
                 chat.list_read_receipts chat.send_read_receipt chat.send_message chat.get_message \
                 chat.update_message chat.delete_message chat.send_typing_notification chat.list_participants",
                "",
            ),
            (
                &[Scope::ChatJoinLimited, Scope::VoipJoin],
                "chat.list_threads chat.get_thread chat.list_read_receipts chat.send_read_receipt \
                 chat.send_message chat.get_message chat.update_message chat.delete_message \
                 chat.send_typing_notification chat.list_participants voip.start_room_call voip.join_call \
                 voip.join_room_call voip.act_in_call",
                ROOM,
            ),
            (
                &[Scope::VoipJoin, Scope::Voip],
                "voip.start_call voip.start_room_call voip.join_call voip.join_room_call voip.act_in_call",
                ROOM,
            ),
        ];
        for (scopes, granted, by_room_role) in rows {
            assert_eq!(permitted(scopes, Permit::Granted).join(" "), granted, "{scopes:?}");
            assert_eq!(permitted(scopes, Permit::ByRoomRole).join(" "), by_room_role, "{scopes:?}");
        }
    }

    #[test]
    fn openapi_document_lists_every_name() {
        let document: serde_json::Value =
            serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
        let names: Vec<_> = Capability::all().map(Capability::as_str).collect();
        assert_eq!(document["components"]["schemas"]["Capability"]["enum"], serde_json::json!(names));
    }

    #[test]
    fn names_are_unique_and_closed() {
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
