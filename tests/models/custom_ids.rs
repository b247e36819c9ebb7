//! One custom id: every interleaving of three creations and two deletions. Any answer may be lost, any write may arrive
//! late or twice, and the record of the free custom id may expire.
//!
//! A creation reads the record of the custom id. If the record names an identity, the creation reads this identity and
//! returns it. If not, it writes an identity of its own and the record in one transaction. A deletion makes the tombstone
//! and the free record in one transaction. Decision record 0015 has the protocol.

use std::fmt;

use crate::search::{Found, Model, explore};

/// The custom id names one living identity or none, and no other identity with the custom id lives.
const ONE: &str = "one identity";
/// A custom id stays free after a successful deletion of its living identity, whatever arrives of the calls that ended
/// before the deletion began.
const FINAL: &str = "deletions are final";
/// A creation that begins after a successful deletion does not return the deleted identity.
const FRESH: &str = "a new identity after a deletion";
/// A creation that succeeded returned an identity that lives until a deletion of it begins.
const KEPT: &str = "creations are durable";

const CREATIONS: usize = 3;
const CALLS: usize = 5;

/// The protocol, or one way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Real,
    /// A deletion removes the record of the custom id.
    RemoveRecord,
    /// The free record expires although an earlier creation is still on its way.
    ExpireEarly,
    /// A creation is conditional on a free custom id, but not on the last creation that it read.
    IgnoreLastCreation,
    /// The record is written without a condition.
    TakeWithoutCondition,
    /// The identity is written although the condition of the record fails.
    CreateInTwoWrites,
    /// A deletion leaves the record as it is.
    DeleteIdentityOnly,
    /// A deletion frees the custom id although its identity does not live.
    FreeWithoutCondition,
}

/// The record of the custom id. A number is an identity, and also its creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Record {
    None,
    Names(u8),
    Free(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// A creation that has read this identity in the record.
    Found(u8),
    /// A creation that has read this record, or a deletion of this identity.
    Running(Record),
    /// A creation that returned this identity, or a deletion of this identity that returned.
    Succeeded(u8),
    /// The caller received a 503 or gave up. A deletion may have been one of this identity.
    Unclear(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Call {
    phase: Phase,
    /// The write that is on its way: of a creation that read this record, or of a deletion of this identity.
    sent: Option<Record>,
    /// The calls that had ended when this one began, a bit for each.
    ended_before: u8,
    /// The living identities when this call began, a bit for each.
    lived_before: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    record: Record,
    /// The living and the deleted identities, a bit for each. Creation `n` makes identity `n`.
    live: u8,
    deleted: u8,
    calls: [Call; CALLS],
    has_expired: bool,
}

struct Protocol(Variant);

enum Action {
    Begin(usize),
    Check(usize),
    Send(usize),
    /// The write arrives, and stays on its way or not.
    Arrive(usize),
    Answer(usize),
    GiveUp(usize),
    Expire,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |call: usize| ["creation 0", "creation 1", "creation 2", "deletion 1", "deletion 2"][call];
        f.pad(&match self {
            Self::Begin(call) => format!("{} reads", name(*call)),
            Self::Check(call) => format!("{} reads the identity", name(*call)),
            Self::Send(call) => format!("{} sends its write", name(*call)),
            Self::Arrive(call) => format!("the write of {} arrives", name(*call)),
            Self::Answer(call) => format!("{} is answered", name(*call)),
            Self::GiveUp(call) => format!("{} gives up", name(*call)),
            Self::Expire => "the free record expires".to_owned(),
        })
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, live {:03b}, deleted {:03b}", self.record, self.live, self.deleted)
    }
}

const fn creates(call: usize) -> bool {
    call < CREATIONS
}

const fn bit(identity: u8) -> u8 {
    1 << identity
}

impl State {
    fn ended(&self) -> u8 {
        let has_ended = |call: &Call| matches!(call.phase, Phase::Succeeded(_) | Phase::Unclear(_));
        (0..CALLS).filter(|at| has_ended(&self.calls[*at])).fold(0, |ended, at| ended | 1 << at)
    }

    /// The identities that a caller has received.
    fn known(&self) -> u8 {
        self.calls[..CREATIONS].iter().fold(0, |known, call| match call.phase {
            Phase::Succeeded(identity) => known | bit(identity),
            _ => known,
        })
    }

    /// The transaction of a creation arrives. Returns whether it finds or makes its identity.
    fn create(&mut self, identity: u8, read: Record, variant: Variant) -> bool {
        if (self.live | self.deleted) & bit(identity) != 0 {
            return true;
        }
        let may_take = match variant {
            Variant::TakeWithoutCondition => true,
            Variant::IgnoreLastCreation => !matches!(self.record, Record::Names(_)),
            _ => self.record == read,
        };
        if may_take {
            self.record = Record::Names(identity);
        }
        if may_take || variant == Variant::CreateInTwoWrites {
            self.live |= bit(identity);
        }
        may_take
    }

    /// The transaction of a deletion arrives.
    fn delete(&mut self, identity: u8, variant: Variant) {
        let lives = self.live & bit(identity) != 0;
        if lives {
            self.live &= !bit(identity);
            self.deleted |= bit(identity);
        }
        let frees = match variant {
            Variant::DeleteIdentityOnly => false,
            Variant::FreeWithoutCondition => true,
            _ => lives,
        };
        if frees {
            self.record =
                if variant == Variant::RemoveRecord { Record::None } else { Record::Free(identity) };
        }
    }

    fn write(&mut self, at: usize, write: Record, variant: Variant) -> bool {
        match write {
            Record::Names(identity) if !creates(at) => {
                self.delete(identity, variant);
                true
            }
            read => self.create(at as u8, read, variant),
        }
    }

    /// Whether a creation that read another record can still arrive, or be sent.
    fn has_earlier_write(&self) -> bool {
        let is_earlier = |read| read != self.record;
        self.calls[..CREATIONS].iter().any(|call| {
            call.sent.is_some_and(is_earlier)
                || matches!(call.phase, Phase::Running(read) if is_earlier(read))
        })
    }
}

impl Protocol {
    fn begin(&self, state: &State, at: usize, found: &mut Vec<(Action, State)>) {
        let targets = if creates(at) { 0..1 } else { 0..CREATIONS as u8 };
        for identity in targets {
            let phase = match state.record {
                Record::Names(named) if creates(at) => Phase::Found(named),
                read if creates(at) => Phase::Running(read),
                _ if state.known() & bit(identity) == 0 => continue,
                // A deletion of a deleted identity returns without a write.
                _ if state.live & bit(identity) == 0 => Phase::Succeeded(identity),
                _ => Phase::Running(Record::Names(identity)),
            };
            let mut next = *state;
            let (ended_before, lived_before) = (state.ended(), state.live);
            next.calls[at] = Call { phase, sent: None, ended_before, lived_before };
            found.push((Action::Begin(at), next));
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        let call = Call { phase: Phase::Idle, sent: None, ended_before: 0, lived_before: 0 };
        State { record: Record::None, live: 0, deleted: 0, calls: [call; CALLS], has_expired: false }
    }

    fn actions(&self, state: &State, found: &mut Vec<(Action, State)>) {
        let Self(variant) = *self;
        for at in 0..CALLS {
            let Call { phase, sent, .. } = state.calls[at];
            let target = |write| if let Record::Names(identity) = write { identity } else { at as u8 };
            // The calls of a kind begin in their order, because they differ in names only.
            let is_next = at == 0 || at == CREATIONS || state.calls[at - 1].phase != Phase::Idle;
            if phase == Phase::Idle && is_next {
                self.begin(state, at, found);
            }
            let mut add = |action, change: &dyn Fn(&mut State)| {
                let mut next = *state;
                change(&mut next);
                found.push((action, next));
            };
            if let Phase::Found(identity) = phase {
                add(Action::Check(at), &|next| {
                    let lives = next.live & bit(identity) != 0;
                    next.calls[at].phase =
                        if lives { Phase::Succeeded(identity) } else { Phase::Unclear(at as u8) };
                });
            }
            if let Phase::Running(write) = phase {
                add(Action::GiveUp(at), &|next| next.calls[at].phase = Phase::Unclear(target(write)));
                add(Action::Answer(at), &|next| {
                    let is_done = next.write(at, write, variant);
                    next.calls[at].phase = match next.record {
                        _ if is_done => Phase::Succeeded(target(write)),
                        // Another creation came first, so the record is read again.
                        Record::Names(identity) => Phase::Found(identity),
                        _ => Phase::Unclear(at as u8),
                    };
                });
                if sent.is_none() {
                    add(Action::Send(at), &|next| next.calls[at].sent = Some(write));
                }
            }
            if let Some(write) = sent {
                for stays in [false, true] {
                    add(Action::Arrive(at), &|next| {
                        next.write(at, write, variant);
                        next.calls[at].sent = stays.then_some(write);
                    });
                }
            }
        }
        let can_expire = variant == Variant::ExpireEarly || !state.has_earlier_write();
        if matches!(state.record, Record::Free(_)) && can_expire {
            found.push((Action::Expire, State { record: Record::None, has_expired: true, ..*state }));
        }
    }

    fn canonical(&self, state: State) -> State {
        state
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let named = if let Record::Names(identity) = state.record { bit(identity) } else { 0 };
        if state.live != named {
            return Some(ONE);
        }
        let is_last = |at: usize| {
            (0..CALLS).filter(|other| *other != at).all(|other| {
                let has_begun = state.calls[other].phase != Phase::Idle;
                !has_begun || state.calls[at].ended_before >> other & 1 == 1
            })
        };
        for at in 0..CALLS {
            let Phase::Succeeded(identity) = state.calls[at].phase else { continue };
            if creates(at) {
                let was_deleted = |deletion: usize| {
                    let ended = state.calls[at].ended_before >> deletion & 1 == 1;
                    ended && state.calls[deletion].phase == Phase::Succeeded(identity)
                };
                if (CREATIONS..CALLS).any(was_deleted) {
                    return Some(FRESH);
                }
                let may_be_deleted = state.calls[CREATIONS..].iter().any(|call| match call.phase {
                    Phase::Running(Record::Names(target)) => target == identity,
                    Phase::Succeeded(target) | Phase::Unclear(target) => target == identity,
                    _ => false,
                });
                if state.live & bit(identity) == 0 && !may_be_deleted {
                    return Some(KEPT);
                }
                continue;
            }
            let Call { lived_before, .. } = state.calls[at];
            let was_alive = lived_before & bit(identity) != 0;
            let is_changed = state.live & (!lived_before | bit(identity)) != 0;
            if was_alive && is_last(at) && is_changed {
                return Some(FINAL);
            }
        }
        None
    }

    /// Shows that the world has late writes after successes, expired records, and creations that return an identity of
    /// another one.
    fn reports(&self, state: &State) -> u8 {
        let deletes = state.calls[CREATIONS..].iter().any(|call| matches!(call.phase, Phase::Succeeded(_)));
        let late = |call: &Call| matches!(call.phase, Phase::Unclear(_)) && call.sent.is_some();
        let late_creation = deletes && state.calls[..CREATIONS].iter().any(late);
        let late_deletion =
            state.deleted != 0 && state.live != 0 && state.calls[CREATIONS..].iter().any(late);
        let shared = (0..CREATIONS).any(
            |at| matches!(state.calls[at].phase, Phase::Succeeded(identity) if usize::from(identity) != at),
        );
        let new_after_expiry = state.has_expired && state.live != 0;
        u8::from(late_creation)
            | u8::from(late_deletion) << 1
            | u8::from(shared) << 2
            | u8::from(new_after_expiry) << 3
    }
}

#[test]
fn custom_id_names_one_identity_in_every_interleaving() {
    let Found { states, reported, broken } = explore(&Protocol(Variant::Real));
    assert_eq!(broken, None, "{states} states");
    assert_eq!(reported, 0b1111, "{states} states");
    assert!(states > 10_000, "{states} states");
    println!("{states} states");
}

#[test]
fn every_wrong_use_of_custom_ids_is_caught() {
    for (variant, promise) in [
        (Variant::RemoveRecord, FINAL),
        (Variant::ExpireEarly, FINAL),
        (Variant::IgnoreLastCreation, FINAL),
        (Variant::TakeWithoutCondition, ONE),
        (Variant::CreateInTwoWrites, ONE),
        (Variant::DeleteIdentityOnly, ONE),
        (Variant::FreeWithoutCondition, ONE),
    ] {
        let found = explore(&Protocol(variant));
        let Some((broken, way)) = found.broken else { panic!("{variant:?} breaks nothing") };
        assert_eq!(broken, promise, "{variant:?}:\n{}", way.join("\n"));
        println!("{variant:?} in {} steps:\n{}\n", way.len(), way.join("\n"));
    }
}
