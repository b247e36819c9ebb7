//! Two operators replace keys at once, over both secrets: a regeneration beside a regeneration or a rotation. Every
//! interleaving is searched. Each operator may crash anywhere, any answer may be lost, and each operator may start
//! again.
//!
//! The model of one secret (`rotation.rs`) has scheduled rotations, late writes, late labels and tokens. This model
//! has the part that needs two secrets: the access keys and the signing keys are promoted one after the other, and
//! each replacement reports one outcome for both.
//!
//! Every call is an action. A version without a label is deleted at once.

mod operator;
mod world;

use std::fmt;

use crate::search::{Found, Model, explore};
use operator::{Operator, Outcome};
use world::{ACCESS, NAMES, PENDING, SIGNING, Version, World};

/// The pointer names versions that hold a label, so they can be read (docs/promises.md, K).
const KEYED: &str = "K";
/// After a success, the keys that were in force at the start of the call are never in force again. Neither is a signing
/// key that was in force together with the former access key: its holder may have requested tokens (S1).
const REPLACED: &str = "S1";
/// After a conflict, no version of the replacement is or was current.
const HONEST: &str = "honest";
/// Without a crash or a lost answer, at least one of all replacements succeeds.
const PROGRESS: &str = "progress";
/// At rest, after a success, only the versions in force hold a label. A rotation leaves the pending access keys of a
/// crashed regeneration: the next regeneration displaces them.
const ONE_LIVE: &str = "one live";
const PROMISES: &[&str] = &[KEYED, REPLACED, HONEST, PROGRESS, ONE_LIVE];

/// The protocol, or one way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Real,
    /// The first protocol of this service: the signing keys are promoted first, and all other faults below.
    Former,
    /// The signing keys are promoted first and decide.
    SigningKeysFirst,
    /// The labels of the access keys are read before the labels of the signing keys.
    AccessLabelsFirst,
    /// A success needs a pointer that names the own versions, not later ones.
    OwnVersionsOnly,
    /// A regeneration whose second promotion was overtaken gives up, although its first version is current.
    GiveUpHalfway,
    /// A refused move of a label counts as not done, although the answer to an earlier attempt was lost.
    TrustRefusal,
    /// A pending version that another one displaced ends a regeneration, whichever secret it is of.
    EitherDisplaced,
}

/// The keys that an operator replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Rotate,
    /// The access key and the signing key of a slot.
    Regenerate(usize),
}

struct Protocol {
    variant: Variant,
    changes: [Change; 2],
    /// How often each operator starts.
    runs: [u8; 2],
    /// Operators crash and answers are lost.
    faults: bool,
    watched: &'static [&'static str],
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct State {
    world: World,
    operators: [Operator; 2],
    /// A crash or a lost answer may have left labels in disorder since the last success.
    disordered: bool,
    /// A crash, or a lost answer, has happened.
    faulty: bool,
    /// A conflict was reported by a replacement that had changed something.
    lied: bool,
    /// A replacement has succeeded.
    succeeded: bool,
}

struct Action {
    who: &'static str,
    what: String,
}

impl State {
    /// A crash or a lost answer may leave labels in disorder. The next replacement cleans them.
    fn disorder(&mut self) {
        (self.faulty, self.disordered) = (true, true);
        for r in &mut self.operators {
            r.covers = false;
        }
    }
}

impl Protocol {
    /// Whether the protocol has this fault.
    fn is(&self, variant: Variant) -> bool {
        self.variant == variant || self.variant == Variant::Former
    }

    fn regenerates(&self, i: usize) -> bool {
        self.changes[i] != Change::Rotate
    }

    /// The secrets in the order in which their versions are promoted.
    fn order(&self, i: usize) -> &'static [usize] {
        if !self.regenerates(i) {
            &[SIGNING]
        } else if self.is(Variant::SigningKeysFirst) {
            &[SIGNING, ACCESS]
        } else {
            &[ACCESS, SIGNING]
        }
    }

    /// The secret of the first promotion decides. The other one follows, if there is one.
    fn follows(&self, i: usize, secret: usize) -> bool {
        self.order(i)[0] != secret
    }

    fn after(&self, i: usize, secret: usize) -> Option<usize> {
        let order = self.order(i);
        order.iter().position(|it| *it == secret).and_then(|at| order.get(at + 1)).copied()
    }

    fn last(&self, i: usize) -> usize {
        self.order(i)[self.order(i).len() - 1]
    }
}

impl Action {
    fn of(operator: usize, what: String) -> Self {
        Self { who: ["A", "B"][operator], what }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    /// The state after the set-up.
    fn initial(&self) -> State {
        let first = Version { sequence: 1, keys: [1, 2] };
        let labels = [first, Version::default(), Version::default(), first];
        let world = World { labels: [labels; 2], pointer: [first; 2] };
        State { world, ..State::default() }
    }

    fn actions(&self, s: &State, found: &mut Vec<(Action, State)>) {
        for i in 0..2 {
            self.step(s, i, found);
            if self.faults && s.operators[i].running() {
                let mut after = *s;
                after.disorder();
                self.end(&mut after, i, Outcome::Unclear);
                found.push((Action::of(i, "crash".to_owned()), after));
            }
        }
    }

    fn canonical(&self, state: State) -> State {
        state
    }

    fn broken(&self, s: &State) -> Option<&'static str> {
        let World { labels, pointer } = s.world;
        let keyed = (0..2).all(|secret| s.world.holds(secret, pointer[secret]));
        let came_back = (0..2).any(|i| s.operators[i].outcome == Outcome::Success && self.came_back(s, i));
        let at_rest = s.operators.iter().all(|it| !it.running());
        let ended = s.operators.map(|it| it.outcome);
        let stuck = at_rest && !s.faulty && !s.succeeded && ended == [Outcome::Conflict; 2];
        let extra = (0..2).any(|secret| {
            let kept = |label: usize| secret == ACCESS && label == PENDING;
            let held = (0..4).filter(|label| !kept(*label)).map(|label| labels[secret][label]);
            held.into_iter().any(|it| it != Version::default() && it != pointer[secret])
        });
        let broken = [
            (KEYED, !keyed),
            (REPLACED, came_back),
            (HONEST, s.lied),
            (PROGRESS, stuck),
            (ONE_LIVE, at_rest && !s.disordered && extra),
        ];
        let mut broken =
            broken.into_iter().filter(|(promise, broken)| *broken && self.watched.contains(promise));
        broken.next().map(|(promise, _)| promise)
    }

    fn reports(&self, s: &State) -> u8 {
        let count = |outcome| s.operators.iter().filter(|it| it.outcome == outcome).count();
        u8::from(count(Outcome::Success) == 2) | (u8::from(count(Outcome::Conflict) == 1) << 1)
    }
}

impl Protocol {
    /// A key that was in force when operator `i` started, and that its success has replaced, is in force.
    fn came_back(&self, s: &State, i: usize) -> bool {
        let former = s.operators[i].former;
        let is_back = |secret: usize, slot: usize| s.world.pointer[secret].keys[slot] == former[secret][slot];
        match self.changes[i] {
            Change::Rotate => is_back(SIGNING, 0) || is_back(SIGNING, 1),
            Change::Regenerate(slot) => is_back(ACCESS, slot) || is_back(SIGNING, slot),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} {}", self.who, self.what))
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for secret in [ACCESS, SIGNING] {
            let [current, previous, pending, in_force] = self.world.labels[secret];
            write!(f, "{}: pointer {:?}, CURRENT {current:?}", NAMES[secret], self.world.pointer[secret])?;
            write!(f, ", PREVIOUS {previous:?}, PENDING {pending:?}, IN_FORCE {in_force:?}; ")?;
        }
        Ok(())
    }
}

const PAIRS: [[Change; 2]; 4] = [
    [Change::Regenerate(0), Change::Regenerate(1)],
    [Change::Regenerate(0), Change::Regenerate(0)],
    [Change::Regenerate(0), Change::Rotate],
    [Change::Rotate, Change::Rotate],
];

fn run(protocol: &Protocol) -> Found {
    let found = explore(protocol);
    let Protocol { variant, changes, runs, .. } = protocol;
    let broken = found.broken.as_ref().map(|(promise, way)| (promise, way.len()));
    println!("{variant:?}, {changes:?}, {runs:?} runs: {} states, broken: {broken:?}", found.states);
    found
}

/// Searches the whole of a setting; `least` guards against a model that reaches too few states.
fn holds(protocol: &Protocol, least: usize) -> Found {
    let found = run(protocol);
    if let Some((promise, way)) = &found.broken {
        panic!("{promise} is broken after {} actions:\n{}", way.len(), way.join("\n"));
    }
    assert!(found.states >= least, "only {} states", found.states);
    found
}

#[test]
fn two_operators_over_both_secrets_keep_every_promise() {
    for changes in PAIRS {
        let protocol =
            Protocol { variant: Variant::Real, changes, runs: [1, 1], faults: true, watched: PROMISES };
        let found = holds(&protocol, 9_000);
        assert_eq!(found.reported, 0b11, "{changes:?}: two successes, and one conflict");
    }
}

#[test]
fn an_operator_that_starts_twice_keeps_every_promise() {
    for changes in [PAIRS[0], PAIRS[2]] {
        let protocol =
            Protocol { variant: Variant::Real, changes, runs: [2, 1], faults: false, watched: PROMISES };
        holds(&protocol, 50_000);
    }
}

/// Each wrong variant breaks the promise named with it.
#[test]
fn each_wrong_regeneration_is_caught() {
    let wrong: [(Variant, bool, &[&str]); 8] = [
        (Variant::Former, false, &[HONEST]),
        (Variant::Former, false, &[PROGRESS]),
        (Variant::SigningKeysFirst, false, &[REPLACED]),
        (Variant::AccessLabelsFirst, false, &[REPLACED]),
        (Variant::OwnVersionsOnly, false, &[HONEST]),
        (Variant::GiveUpHalfway, false, &[HONEST]),
        (Variant::TrustRefusal, true, &[HONEST]),
        (Variant::EitherDisplaced, false, &[PROGRESS]),
    ];
    for (variant, faults, watched) in wrong {
        let found = run(&Protocol { variant, changes: PAIRS[0], runs: [1, 1], faults, watched });
        assert!(found.broken.is_some(), "{variant:?} does not break {watched:?}");
    }
}
