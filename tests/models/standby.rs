//! Standby keys: each slot's next key is published one scheduled rotation before it signs. A scheduled rotation, an
//! operator and a verifier that keeps the key set, in every interleaving. A replacement may crash anywhere. Secrets Manager
//! repeats a crashed rotation with its version, and an operator starts again.
//!
//! `rotation.rs` and `regeneration.rs` have the labels, lost answers and late writes of the same steps. Here a step reads or
//! writes at once, a promotion moves CURRENT from the document that the replacement was made from, and a publication makes
//! the pointer follow CURRENT.
//!
//! An online verification reads the pointer, so each state decides every verification that starts in it.

use std::fmt;

use crate::search::{Found, Model, explore};

/// A token is accepted online only by a key that the service may have signed with: one that is or was in force.
const ADMITTED: &str = "a standby key admits nothing";
/// After an operator's success, no key and no standby key that its slots had at its start is published again.
const DISCARDED: &str = "an emergency discards standby keys";
/// After a success of the schedule, the keys that were in force at its start are not in force again (S1).
const REPLACED: &str = "S1";
/// A verifier that fetched the key set before one scheduled rotation, and before no other replacement, knows each key in
/// force.
const AHEAD: &str = "keys are known ahead";
const PROMISES: &[&str] = &[ADMITTED, DISCARDED, REPLACED, AHEAD];

/// The protocol, or one way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Real,
    /// Online verification accepts every key of the key set.
    AcceptStandby,
    /// A scheduled rotation makes new keys.
    FreshSchedule,
    /// The replaced keys become the standby keys.
    SwapKeys,
    /// An operator's rotation promotes the standby keys, as the schedule does.
    PromoteInEmergency,
    /// An operator's replacement keeps the standby keys.
    KeepStandby,
    /// A scheduled version is promoted although an operator has replaced the keys since it was made.
    PromoteOvertaken,
    /// The standby keys are made when the schedule begins, and published with it.
    PublishLate,
}

/// An operator's replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Emergency {
    Rotate,
    /// Replaces the keys of the first slot.
    Regenerate,
}

/// The keys of two slots. The keys are numbered in the order in which they are made.
type Slots = [u8; 2];

/// A document of the secret, which the pointer publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Document {
    sequence: u8,
    keys: Slots,
    standby: Slots,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Step {
    #[default]
    Idle,
    /// Repairs the pointer and reads it.
    Begin,
    Store,
    /// finishSecret repairs the pointer and reads it again.
    Finish,
    Promote,
    Publish,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Replacement {
    step: Step,
    /// The document that the pointer named.
    base: Document,
    /// The own version. It keeps its document through crashes of a scheduled rotation.
    mine: Document,
    /// The keys that this replacement discards: of the pointer when it was invoked.
    discards: u32,
    left: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    pointer: Document,
    current: Document,
    next_key: u8,
    schedule: Replacement,
    operator: Replacement,
    /// Every key that was in force.
    signed: u32,
    /// Keys that no later state may publish, and keys that no later state may have in force.
    discarded: u32,
    replaced: u32,
    /// The key set that the verifier keeps, and the publications since.
    kept: u32,
    scheduled_since: u8,
    others_since: bool,
}

struct Protocol {
    variant: Variant,
    emergency: Emergency,
    watched: &'static [&'static str],
}

struct Action(&'static str, &'static str);

const fn set(keys: Slots) -> u32 {
    1 << keys[0] | 1 << keys[1]
}

impl Document {
    fn published(self) -> u32 {
        set(self.keys) | set(self.standby)
    }
}

impl State {
    fn fresh(&mut self) -> u8 {
        self.next_key += 1;
        self.next_key - 1
    }

    fn fresh_slots(&mut self) -> Slots {
        [self.fresh(), self.fresh()]
    }

    /// The pointer follows CURRENT.
    fn publish(&mut self) {
        if self.pointer == self.current {
            return;
        }
        if self.current == self.schedule.mine {
            self.scheduled_since = (self.scheduled_since + 1).min(2);
        } else {
            self.others_since = true;
        }
        self.pointer = self.current;
        self.signed |= set(self.pointer.keys);
    }
}

impl Protocol {
    fn is(&self, variant: Variant) -> bool {
        self.variant == variant
    }

    /// The keys of the slots that the operator replaces.
    fn discards(&self, document: Document) -> u32 {
        match self.emergency {
            Emergency::Rotate => document.published(),
            Emergency::Regenerate => 1 << document.keys[0] | 1 << document.standby[0],
        }
    }

    fn scheduled_document(&self, s: &mut State, base: Document) -> Document {
        let keys = if self.is(Variant::FreshSchedule) { s.fresh_slots() } else { base.standby };
        let standby = if self.is(Variant::SwapKeys) { base.keys } else { s.fresh_slots() };
        Document { sequence: base.sequence + 1, keys, standby }
    }

    fn emergency_document(&self, s: &mut State, base: Document) -> Document {
        let sequence = base.sequence + 1;
        match self.emergency {
            Emergency::Rotate if self.is(Variant::PromoteInEmergency) => {
                Document { sequence, keys: base.standby, standby: s.fresh_slots() }
            }
            Emergency::Rotate => {
                let keys = s.fresh_slots();
                let standby = if self.is(Variant::KeepStandby) { base.standby } else { s.fresh_slots() };
                Document { sequence, keys, standby }
            }
            Emergency::Regenerate => {
                let mut made = Document { sequence, ..base };
                made.keys[0] = s.fresh();
                if !self.is(Variant::KeepStandby) {
                    made.standby[0] = s.fresh();
                }
                made
            }
        }
    }

    fn scheduled(&self, s: &State) -> Option<(&'static str, State)> {
        let mut after = *s;
        let what = match s.schedule.step {
            Step::Idle if s.schedule.left == 0 => return None,
            Step::Idle => {
                let r = &mut after.schedule;
                // A repetition after a crash keeps the version, and what the first attempt replaces.
                if r.mine == Document::default() {
                    r.discards = set(s.pointer.keys);
                }
                r.step = Step::Begin;
                "is invoked"
            }
            Step::Begin => {
                after.publish();
                after.schedule.base = after.pointer;
                let has_value = s.schedule.mine != Document::default();
                after.schedule.step = if has_value { Step::Finish } else { Step::Store };
                "reads the pointer"
            }
            Step::Store => {
                let made = self.scheduled_document(&mut after, s.schedule.base);
                if self.is(Variant::PublishLate) {
                    // The keys are not in any key set yet.
                    after.schedule.mine = Document { keys: made.standby, standby: made.keys, ..made };
                } else {
                    after.schedule.mine = made;
                }
                after.schedule.step = Step::Finish;
                "stores its version"
            }
            Step::Finish => {
                after.publish();
                let r = &mut after.schedule;
                r.base = after.pointer;
                let is_next = r.mine.sequence == r.base.sequence + 1 || self.is(Variant::PromoteOvertaken);
                if r.mine == after.pointer {
                    r.step = Step::Publish;
                } else if is_next {
                    r.step = Step::Promote;
                } else {
                    // Not pending any more: the next rotation has another version.
                    *r = Replacement { left: r.left - 1, ..Replacement::default() };
                }
                "reads the pointer to finish"
            }
            Step::Promote => {
                if s.current == s.schedule.base {
                    after.current = s.schedule.mine;
                    after.schedule.step = Step::Publish;
                } else {
                    after.schedule = Replacement { left: s.schedule.left - 1, ..Replacement::default() };
                }
                "promotes its version"
            }
            Step::Publish => {
                after.publish();
                after.replaced |= s.schedule.discards;
                after.schedule = Replacement { left: s.schedule.left - 1, ..Replacement::default() };
                "publishes and succeeds"
            }
        };
        Some((what, after))
    }

    fn operated(&self, s: &State) -> Option<(&'static str, State)> {
        let mut after = *s;
        let what = match s.operator.step {
            Step::Idle if s.operator.left == 0 => return None,
            Step::Idle => {
                after.operator.discards = self.discards(s.pointer);
                after.operator.step = Step::Begin;
                "is invoked"
            }
            Step::Begin => {
                after.publish();
                after.operator.base = after.pointer;
                after.operator.step = Step::Store;
                "reads the pointer"
            }
            Step::Store | Step::Finish => {
                after.operator.mine = self.emergency_document(&mut after, s.operator.base);
                after.operator.step = Step::Promote;
                "stores a version"
            }
            Step::Promote => {
                if s.current == s.operator.base {
                    after.current = s.operator.mine;
                    after.operator.step = Step::Publish;
                } else {
                    after.operator = Replacement { left: s.operator.left - 1, ..Replacement::default() };
                }
                "promotes its version"
            }
            Step::Publish => {
                after.publish();
                after.discarded |= s.operator.discards;
                after.operator = Replacement { left: s.operator.left - 1, ..Replacement::default() };
                "publishes and succeeds"
            }
        };
        Some((what, after))
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        let first = Document { sequence: 1, keys: [1, 2], standby: [3, 4] };
        State {
            pointer: first,
            current: first,
            next_key: 5,
            schedule: Replacement { left: 2, ..Replacement::default() },
            operator: Replacement { left: 2, ..Replacement::default() },
            signed: set(first.keys),
            discarded: 0,
            replaced: 0,
            kept: first.published(),
            scheduled_since: 0,
            others_since: false,
        }
    }

    fn actions(&self, s: &State, found: &mut Vec<(Action, State)>) {
        found.extend(self.scheduled(s).map(|(what, after)| (Action("schedule", what), after)));
        found.extend(self.operated(s).map(|(what, after)| (Action("operator", what), after)));
        if s.schedule.step != Step::Idle {
            let schedule = Replacement { step: Step::Idle, ..s.schedule };
            found.push((Action("schedule", "crashes"), State { schedule, ..*s }));
        }
        if s.operator.step != Step::Idle {
            let operator = Replacement { left: s.operator.left - 1, ..Replacement::default() };
            found.push((Action("operator", "crashes"), State { operator, ..*s }));
        }
        let fetched = State { kept: s.pointer.published(), scheduled_since: 0, others_since: false, ..*s };
        found.push((Action("verifier", "fetches the key set"), fetched));
    }

    fn canonical(&self, state: State) -> State {
        state
    }

    fn broken(&self, s: &State) -> Option<&'static str> {
        let in_force = set(s.pointer.keys);
        let accepted = if self.is(Variant::AcceptStandby) { s.pointer.published() } else { in_force };
        let is_kept_long_enough = s.scheduled_since <= 1 && !s.others_since;
        let broken = [
            (ADMITTED, accepted & !s.signed != 0),
            (DISCARDED, s.pointer.published() & s.discarded != 0),
            (REPLACED, in_force & s.replaced != 0),
            (AHEAD, is_kept_long_enough && in_force & !s.kept != 0),
        ];
        let mut broken =
            broken.into_iter().filter(|(promise, broken)| *broken && self.watched.contains(promise));
        broken.next().map(|(promise, _)| promise)
    }

    /// Both rotations of the schedule have succeeded; the operator has succeeded.
    fn reports(&self, s: &State) -> u8 {
        u8::from(s.replaced.count_ones() >= 4) | (u8::from(s.discarded != 0) << 1)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} {}", self.0, self.1))
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pointer {:?}, CURRENT {:?}", self.pointer, self.current)
    }
}

fn run(variant: Variant, emergency: Emergency, watched: &'static [&'static str]) -> Found {
    let found = explore(&Protocol { variant, emergency, watched });
    let broken = found.broken.as_ref().map(|(promise, way)| (promise, way.len()));
    println!("{variant:?}, {emergency:?}: {} states, broken: {broken:?}", found.states);
    found
}

#[test]
fn schedule_beside_an_operator_keeps_every_promise_of_standby_keys() {
    for emergency in [Emergency::Rotate, Emergency::Regenerate] {
        let found = run(Variant::Real, emergency, PROMISES);
        if let Some((promise, way)) = &found.broken {
            panic!("{promise} is broken after {} actions:\n{}", way.len(), way.join("\n"));
        }
        assert!(found.states >= 10_000, "only {} states", found.states);
        assert_eq!(found.reported, 0b11, "two scheduled rotations succeed, and the operator does");
    }
}

/// Each wrong variant breaks the promise named with it.
#[test]
fn each_wrong_use_of_standby_keys_is_caught() {
    use Emergency::{Regenerate, Rotate};
    let wrong: [(Variant, Emergency, &[&str]); 9] = [
        (Variant::AcceptStandby, Rotate, &[ADMITTED]),
        (Variant::FreshSchedule, Rotate, &[AHEAD]),
        (Variant::PublishLate, Rotate, &[AHEAD]),
        (Variant::SwapKeys, Rotate, &[REPLACED]),
        (Variant::PromoteInEmergency, Rotate, &[DISCARDED]),
        (Variant::KeepStandby, Rotate, &[DISCARDED]),
        (Variant::KeepStandby, Regenerate, &[DISCARDED]),
        (Variant::PromoteOvertaken, Rotate, &[DISCARDED]),
        (Variant::PromoteOvertaken, Regenerate, &[DISCARDED]),
    ];
    for (variant, emergency, watched) in wrong {
        let found = run(variant, emergency, watched);
        assert!(found.broken.is_some(), "{variant:?}, {emergency:?} does not break {watched:?}");
    }
}
