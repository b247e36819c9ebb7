//! The assignment of one key: every interleaving of two assignments and two removals. Any answer may be lost, any write
//! may arrive late or twice, and the record of a removal may expire.
//!
//! A call is a read of the record and one conditional write. The write may be on its way several times, before and
//! after the caller gave up. A read that decides an exchange is one strongly consistent read, so each state answers for
//! every exchange that starts there. Decision record 0012 has the protocol.

use std::fmt;

use crate::search::{Found, Model, explore};

/// The result of the last successful call stays, if every other call has ended before that call began: a removed
/// assignment stays removed, and an assignment after it stays assigned.
const FINAL: &str = "A";

/// The calls: two assignments, then two removals.
const CALLS: usize = 4;

const fn assigns(call: usize) -> bool {
    call < 2
}

/// The protocol, or one way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Real,
    /// A removal deletes the item.
    DeleteItem,
    /// Versions are counted, so they begin again after a record has expired.
    CountVersions,
    /// The record of a removal expires although an earlier write is still on its way.
    ExpireEarly,
    /// A removal that finds no assignment writes nothing. The former release did this.
    RemoveWithoutWrite,
    /// An assignment that finds an equal one writes nothing. The former release did this too.
    AssignWithoutWrite,
    /// A call reads and writes again after a conflict, also if its caller has given up.
    RetryAfterConflict,
    /// The write has no condition.
    Unconditional,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Running,
    Succeeded,
    /// The caller received a 503 or gave up.
    Unclear,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Call {
    phase: Phase,
    /// The version that it read.
    read_version: u8,
    /// Whether its write is on its way.
    sent: bool,
    /// The calls that had ended when this one began, a bit for each.
    ended_before: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    /// 0 without a record.
    version: u8,
    /// The last version that a write has made. Versions are random, so none occurs twice.
    last_version: u8,
    assigned: bool,
    calls: [Call; CALLS],
    has_expired: bool,
}

struct Protocol(Variant);

enum Action {
    Begin(usize),
    Send(usize),
    /// The write arrives, and stays on its way or not.
    Arrive(usize),
    Answer(usize),
    GiveUp(usize),
    Expire,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |call: usize| ["assignment 1", "assignment 2", "removal 1", "removal 2"][call];
        f.pad(&match self {
            Self::Begin(call) => format!("{} reads", name(*call)),
            Self::Send(call) => format!("{} sends its write", name(*call)),
            Self::Arrive(call) => format!("the write of {} arrives", name(*call)),
            Self::Answer(call) => format!("{} is answered", name(*call)),
            Self::GiveUp(call) => format!("{} gives up", name(*call)),
            Self::Expire => "the record of the removal expires".to_owned(),
        })
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let assigned = if self.assigned { "assigned" } else { "not assigned" };
        write!(f, "version {}, {assigned}", self.version)
    }
}

impl State {
    fn ended(&self) -> u8 {
        let has_ended = |call: &Call| matches!(call.phase, Phase::Succeeded | Phase::Unclear);
        (0..CALLS).filter(|at| has_ended(&self.calls[*at])).fold(0, |ended, at| ended | 1 << at)
    }

    /// The write of a call arrives. Returns whether the requested state is reached.
    fn write(&mut self, at: usize, variant: Variant) -> bool {
        let call = &mut self.calls[at];
        if variant != Variant::Unconditional && self.version != call.read_version {
            let is_done = self.version != 0 && self.assigned == assigns(at);
            if !is_done && variant == Variant::RetryAfterConflict {
                call.read_version = self.version;
            }
            return is_done;
        }
        self.assigned = assigns(at);
        self.last_version =
            if variant == Variant::CountVersions { self.version } else { self.last_version } + 1;
        self.version = if variant == Variant::DeleteItem && !assigns(at) { 0 } else { self.last_version };
        true
    }

    /// Whether a write that read another version can still arrive, or be sent.
    fn has_earlier_write(&self) -> bool {
        let is_earlier =
            |call: &Call| call.read_version != self.version && (call.sent || call.phase == Phase::Running);
        self.calls.iter().any(is_earlier)
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        let call = Call { phase: Phase::Idle, read_version: 0, sent: false, ended_before: 0 };
        State { version: 0, last_version: 0, assigned: false, calls: [call; CALLS], has_expired: false }
    }

    fn actions(&self, state: &State, found: &mut Vec<(Action, State)>) {
        let Self(variant) = *self;
        for at in 0..CALLS {
            let Call { phase, sent, .. } = state.calls[at];
            let mut add = |action, change: &dyn Fn(&mut State)| {
                let mut next = *state;
                change(&mut next);
                found.push((action, next));
            };
            if phase == Phase::Idle {
                let ended_before = state.ended();
                let skips = match variant {
                    Variant::RemoveWithoutWrite => !assigns(at) && !state.assigned,
                    Variant::AssignWithoutWrite => assigns(at) && state.assigned,
                    _ => false,
                };
                let phase = if skips { Phase::Succeeded } else { Phase::Running };
                let begun = Call { phase, read_version: state.version, sent: false, ended_before };
                add(Action::Begin(at), &|next| next.calls[at] = begun);
            }
            if phase == Phase::Running {
                add(Action::GiveUp(at), &|next| next.calls[at].phase = Phase::Unclear);
                add(Action::Answer(at), &|next| {
                    let is_done = next.write(at, variant);
                    next.calls[at].phase = if is_done { Phase::Succeeded } else { Phase::Unclear };
                });
                if !sent {
                    add(Action::Send(at), &|next| next.calls[at].sent = true);
                }
            }
            if sent {
                for stays in [false, true] {
                    add(Action::Arrive(at), &|next| {
                        next.write(at, variant);
                        next.calls[at].sent = stays;
                    });
                }
            }
        }
        let can_expire = variant == Variant::ExpireEarly || !state.has_earlier_write();
        if state.version > 0 && !state.assigned && can_expire {
            found.push((Action::Expire, State { version: 0, has_expired: true, ..*state }));
        }
    }

    /// The first call of a kind begins first.
    fn canonical(&self, mut state: State) -> State {
        for first in [0, 2] {
            if state.calls[first].phase == Phase::Idle && state.calls[first + 1].phase != Phase::Idle {
                state.calls.swap(first, first + 1);
                for call in &mut state.calls {
                    let (one, two) = (call.ended_before >> first & 1, call.ended_before >> (first + 1) & 1);
                    call.ended_before &= !(0b11 << first);
                    call.ended_before |= one << (first + 1) | two << first;
                }
            }
        }
        state
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let is_last = |at: usize| {
            (0..CALLS).filter(|other| *other != at).all(|other| {
                let has_begun = state.calls[other].phase != Phase::Idle;
                !has_begun || state.calls[at].ended_before >> other & 1 == 1
            })
        };
        let is_wrong = |at: usize| {
            state.calls[at].phase == Phase::Succeeded && is_last(at) && state.assigned != assigns(at)
        };
        (0..CALLS).any(is_wrong).then_some(FINAL)
    }

    /// Shows that the world has late writes after successes, and records that expire.
    fn reports(&self, state: &State) -> u8 {
        let is = |at: usize, phase, sent| state.calls[at].phase == phase && state.calls[at].sent == sent;
        let late_assignment = is(0, Phase::Unclear, true) && is(2, Phase::Succeeded, false);
        let late_removal = is(2, Phase::Unclear, true) && is(0, Phase::Succeeded, false);
        let assigned_after_expiry = state.has_expired && state.assigned;
        u8::from(late_assignment) | u8::from(late_removal) << 1 | u8::from(assigned_after_expiry) << 2
    }
}

#[test]
fn last_successful_change_of_an_assignment_stays() {
    let Found { states, reported, broken } = explore(&Protocol(Variant::Real));
    assert_eq!(broken, None, "{states} states");
    assert_eq!(reported, 0b111, "{states} states");
    assert!(states > 1_000, "{states} states");
}

#[test]
fn every_wrong_variant_loses_a_change() {
    for variant in [
        Variant::DeleteItem,
        Variant::CountVersions,
        Variant::ExpireEarly,
        Variant::RemoveWithoutWrite,
        Variant::AssignWithoutWrite,
        Variant::RetryAfterConflict,
        Variant::Unconditional,
    ] {
        let found = explore(&Protocol(variant));
        let Some((promise, way)) = found.broken else { panic!("{variant:?} breaks nothing") };
        assert_eq!(promise, FINAL, "{variant:?}");
        println!("{variant:?} in {} steps:\n{}\n", way.len(), way.join("\n"));
    }
}
