//! Two operators replace keys at once, over both secrets: a regeneration beside a regeneration or a rotation. Every
//! interleaving is searched. Each operator may crash anywhere, any answer may be lost, and each operator may start
//! again.
//!
//! The model of one secret (`rotation.rs`) has scheduled rotations, late writes, late labels and tokens. This model
//! has the part that needs two secrets: the access keys and the signing keys are promoted one after the other, and
//! each replacement reports one outcome for both.
//!
//! Every call is an action. A version without a label is deleted at once.

use std::fmt;

use crate::search::{Found, Model, explore};

/// The places of the secrets.
const ACCESS: usize = 0;
const SIGNING: usize = 1;

/// The places of the labels.
const CURRENT: usize = 0;
const PREVIOUS: usize = 1;
const PENDING: usize = 2;
const IN_FORCE: usize = 3;

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

/// How often the second version of a regeneration is made again, and one more.
const ATTEMPTS: u8 = 3;

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

/// A version of a secret. Its value never changes, so the version and its document are one thing here.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Version {
    /// The sequence number of the document; 0 stands for no version.
    sequence: u8,
    /// The ids of the keys of both slots.
    keys: [u8; 2],
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct World {
    /// The holders of the labels, by secret.
    labels: [[Version; 4]; 2],
    /// The versions that the pointer names. They serve as its generation too, because no pair comes back.
    pointer: [Version; 2],
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
enum Step {
    #[default]
    Idle,
    ReadPointer,
    ReadLabels(usize),
    ReadValue(usize),
    WritePointer,
    /// The moves of IN_FORCE and of PREVIOUS, for each secret.
    Clean(usize),
    ReadBase(usize),
    Store(usize),
    Test(usize),
    Promote(usize),
    /// The promotion was refused: the labels decide whether it is done.
    PromoteRead(usize),
    /// It is not there: the pointer decides whether the version was current before.
    PromoteJudge(usize),
    /// The replacement ends without success: its pending versions are removed.
    Abandon(usize),
}

/// The purpose of the publishing that an operator is in.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
enum Publish {
    /// The first one repairs a pointer that lags behind.
    #[default]
    First,
    /// The second version was overtaken after the first one had become current.
    Again,
    /// The last one publishes the own versions.
    Last,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
enum Outcome {
    #[default]
    Open,
    Success,
    Conflict,
    /// An error: the effect is unclear.
    Unclear,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Operator {
    step: Step,
    publish: Publish,
    /// The versions that the pointer named, later the versions that it is to name.
    named: [Version; 2],
    /// The pointer as it was read.
    read: [Version; 2],
    /// The labels as they were read.
    labels: [[Version; 4]; 2],
    /// A move of a label was refused, or its answer was lost.
    repeat: bool,
    mine: [Version; 2],
    /// The answer to the promotion was lost, and it was sent again.
    resent: bool,
    /// The outcome to report after the pending versions are removed.
    outcome: Outcome,
    /// How often its second version was overtaken in this run.
    overtaken: u8,
    /// How often it has started, and how many versions it has made.
    runs: u8,
    made: u8,
    /// One of its versions was made current in this run.
    promoted: bool,
    /// No crash and no lost answer has happened since the start of this run.
    covers: bool,
    /// The keys that were in force at the start, and later the last signing keys that were in force together with the
    /// access keys of the start.
    former: [[u8; 2]; 2],
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

impl World {
    fn holds(&self, secret: usize, version: Version) -> bool {
        self.labels[secret].contains(&version)
    }

    fn store(&mut self, secret: usize, version: Version) {
        self.labels[secret][PENDING] = version;
    }

    fn move_label(&mut self, secret: usize, label: usize, from: Version, to: Version) -> bool {
        let known = to == Version::default() || self.holds(secret, to);
        let labels = &mut self.labels[secret];
        if labels[label] != from || !known {
            return false;
        }
        labels[label] = to;
        if label == CURRENT {
            labels[PREVIOUS] = from;
            if labels[PENDING] == to {
                labels[PENDING] = Version::default();
            }
        }
        true
    }
}

impl Operator {
    fn running(&self) -> bool {
        self.step != Step::Idle
    }

    fn publish(&mut self, publish: Publish) {
        self.publish = publish;
        self.step = Step::ReadPointer;
        (self.read, self.named, self.labels, self.repeat) = Default::default();
    }

    /// The move that cleaning step `number` makes, if one is needed.
    fn cleaning(&self, number: usize) -> Option<(usize, usize, Version, Version)> {
        let (secret, none) = (number / 2, Version::default());
        let (named, labels) = (self.named[secret], self.labels[secret]);
        if number.is_multiple_of(2) {
            (labels[IN_FORCE] != named).then_some((secret, IN_FORCE, labels[IN_FORCE], named))
        } else {
            let is_former = labels[PREVIOUS] != none && labels[PREVIOUS] != named;
            is_former.then_some((secret, PREVIOUS, labels[PREVIOUS], none))
        }
    }

    /// The version that this operator makes of `base`.
    fn fresh(&mut self, operator: usize, change: Change, base: Version) -> Version {
        self.made += 1;
        let id = u8::try_from(operator).expect("0 or 1") * 32 + self.made + 2;
        let mut keys = base.keys;
        match change {
            Change::Rotate => keys = [id, id + 128],
            Change::Regenerate(slot) => keys[slot] = id,
        }
        Version { sequence: base.sequence + 1, keys }
    }
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

    /// Writes the pointer. The holder of a former access key can request tokens that the new signing keys sign.
    fn publish(&self, s: &mut State, pointer: [Version; 2]) {
        s.world.pointer = pointer;
        for (r, change) in s.operators.iter_mut().zip(self.changes) {
            if let Change::Regenerate(slot) = change
                && r.running()
                && pointer[ACCESS].keys[slot] == r.former[ACCESS][slot]
            {
                r.former[SIGNING][slot] = pointer[SIGNING].keys[slot];
            }
        }
    }

    fn end(&self, s: &mut State, i: usize, outcome: Outcome) {
        let r = &mut s.operators[i];
        match outcome {
            Outcome::Success => {
                s.disordered &= !r.covers;
                s.succeeded = true;
            }
            Outcome::Conflict => s.lied |= r.promoted,
            Outcome::Unclear => s.disorder(),
            Outcome::Open => {}
        }
        let r = &mut s.operators[i];
        let former = if outcome == Outcome::Success { r.former } else { Default::default() };
        *r = Operator { outcome, runs: r.runs, made: r.made, former, ..Operator::default() };
    }

    /// Ends without success, once the pending versions are removed.
    fn abandon(&self, s: &mut State, i: usize, outcome: Outcome) {
        let r = &mut s.operators[i];
        r.outcome = outcome;
        r.step = Step::Abandon(ACCESS);
        self.skip_abandoned(s, i);
    }

    fn skip_abandoned(&self, s: &mut State, i: usize) {
        let r = &mut s.operators[i];
        while let Step::Abandon(secret) = r.step
            && r.mine[secret] == Version::default()
        {
            if secret == SIGNING {
                let outcome = r.outcome;
                return self.end(s, i, outcome);
            }
            r.step = Step::Abandon(SIGNING);
        }
    }

    /// Another replacement has displaced or overtaken the version of `secret`.
    fn overtaken(&self, s: &mut State, i: usize, secret: usize) {
        let r = &mut s.operators[i];
        if self.follows(i, secret) && r.promoted && !self.is(Variant::GiveUpHalfway) {
            self.again(s, i, secret);
        } else if self.follows(i, secret) && !r.promoted && !self.is(Variant::EitherDisplaced) {
            // The other secret decides. This version is made again after that.
            r.mine[secret] = Version::default();
            r.step = Step::Promote(self.order(i)[0]);
        } else {
            self.abandon(s, i, Outcome::Conflict);
        }
    }

    /// The promotion of `secret` was refused. Only one version is ever promoted from the base, and a later replacement
    /// first publishes the version that it replaces. So a pointer that names another successor of the base, or still
    /// the base, means that the own version was never current. A pointer beyond that leaves it open.
    fn judge(&self, s: &mut State, i: usize, secret: usize, published: Version) {
        let mine = s.operators[i].mine[secret];
        if published == mine {
            self.promoted(s, i, secret);
        } else if published.sequence > mine.sequence && !self.follows(i, secret) {
            self.abandon(s, i, Outcome::Unclear);
        } else {
            self.overtaken(s, i, secret);
        }
    }

    /// Makes the version of `secret` again, from the version that is current now. Two operators that displace each
    /// other's pending versions in turn could go on without end, so the number of attempts has a limit.
    fn again(&self, s: &mut State, i: usize, secret: usize) {
        let r = &mut s.operators[i];
        r.mine[secret] = Version::default();
        r.overtaken += 1;
        if r.overtaken < ATTEMPTS {
            r.publish(Publish::Again);
        } else {
            self.abandon(s, i, Outcome::Unclear);
        }
    }

    fn promoted(&self, s: &mut State, i: usize, secret: usize) {
        let r = &mut s.operators[i];
        r.resent = false;
        match self.after(i, secret) {
            Some(next) if r.mine[next] == Version::default() => self.again(s, i, next),
            Some(next) => r.step = Step::Promote(next),
            None => r.publish(Publish::Last),
        }
    }

    fn published(&self, s: &mut State, i: usize) {
        let r = &mut s.operators[i];
        r.step = Step::Clean(0);
        r.read = Default::default();
        self.skip_clean(s, i);
    }

    fn skip_clean(&self, s: &mut State, i: usize) {
        let r = &mut s.operators[i];
        let Step::Clean(from) = r.step else { return };
        if let Some(needed) = (from..4).find(|number| r.cleaning(*number).is_some()) {
            r.step = Step::Clean(needed);
        } else if r.repeat {
            r.publish(r.publish);
        } else {
            self.cleaned(s, i);
        }
    }

    fn cleaned(&self, s: &mut State, i: usize) {
        let r = &mut s.operators[i];
        r.labels = Default::default();
        match r.publish {
            Publish::First => r.step = Step::ReadBase(self.order(i)[0]),
            Publish::Again => r.step = Step::ReadBase(self.last(i)),
            Publish::Last => {
                let own_only = self.is(Variant::OwnVersionsOnly);
                let reached = [ACCESS, SIGNING].into_iter().all(|secret| match r.mine[secret] {
                    mine if mine == Version::default() => true,
                    mine if own_only => r.named[secret] == mine,
                    mine => r.named[secret].sequence >= mine.sequence,
                });
                let outcome = if reached { Outcome::Success } else { Outcome::Conflict };
                self.end(s, i, outcome);
            }
        }
    }

    fn step(&self, s: &State, i: usize, found: &mut Vec<(Action, State)>) {
        match s.operators[i].step {
            Step::Idle => self.start(s, i, found),
            Step::ReadPointer | Step::ReadLabels(_) | Step::ReadValue(_) => self.read_to_publish(s, i, found),
            Step::ReadBase(_) | Step::Test(_) | Step::PromoteRead(_) | Step::PromoteJudge(_) => {
                self.read_to_replace(s, i, found);
            }
            _ => self.write(s, i, found),
        }
    }

    fn start(&self, s: &State, i: usize, found: &mut Vec<(Action, State)>) {
        let Operator { runs, made, .. } = s.operators[i];
        if runs < self.runs[i] {
            let mut after = *s;
            let former = s.world.pointer.map(|version| version.keys);
            let o = &mut after.operators[i];
            *o = Operator { runs: runs + 1, made, former, covers: true, ..Operator::default() };
            o.publish(Publish::First);
            found.push((Action::of(i, "start".to_owned()), after));
        }
    }

    fn read_to_publish(&self, s: &State, i: usize, found: &mut Vec<(Action, State)>) {
        let r = s.operators[i];
        let mut after = *s;
        let o = &mut after.operators[i];
        let what = match r.step {
            Step::ReadLabels(secret) => {
                o.labels[secret] = s.world.labels[secret];
                o.named[secret] = s.world.labels[secret][CURRENT];
                let last = if self.is(Variant::AccessLabelsFirst) { SIGNING } else { ACCESS };
                o.step = if secret == last { Step::ReadValue(ACCESS) } else { Step::ReadLabels(last) };
                if secret == last {
                    self.values_read(&mut after, i);
                }
                format!("read the labels of {}", NAMES[secret])
            }
            Step::ReadValue(secret) => {
                if !s.world.holds(secret, r.named[secret]) {
                    o.publish(r.publish);
                } else if secret == ACCESS {
                    o.step = Step::ReadValue(SIGNING);
                    self.values_read(&mut after, i);
                } else {
                    o.step = Step::WritePointer;
                }
                format!("read the current {}", NAMES[secret])
            }
            _ => {
                (o.read, o.named) = (s.world.pointer, s.world.pointer);
                let first = if self.is(Variant::AccessLabelsFirst) { ACCESS } else { SIGNING };
                o.step = Step::ReadLabels(first);
                "read the pointer".to_owned()
            }
        };
        found.push((Action::of(i, what), after));
    }

    fn read_to_replace(&self, s: &State, i: usize, found: &mut Vec<(Action, State)>) {
        let r = s.operators[i];
        let mut after = *s;
        let o = &mut after.operators[i];
        let what = match r.step {
            Step::ReadBase(secret) => {
                if s.world.holds(secret, r.named[secret]) {
                    o.step = Step::Store(secret);
                } else {
                    self.overtaken(&mut after, i, secret);
                }
                format!("read the {} to replace", NAMES[secret])
            }
            Step::Test(secret) => {
                if s.world.holds(secret, r.mine[secret]) {
                    o.step = match self.after(i, secret) {
                        _ if r.publish == Publish::Again => Step::Promote(secret),
                        Some(next) => Step::Test(next),
                        None => Step::Promote(self.order(i)[0]),
                    };
                } else {
                    self.overtaken(&mut after, i, secret);
                }
                format!("test {}", NAMES[secret])
            }
            Step::PromoteRead(secret) => {
                if s.world.labels[secret][CURRENT] == r.mine[secret] {
                    self.promoted(&mut after, i, secret);
                } else if self.is(Variant::TrustRefusal) {
                    self.overtaken(&mut after, i, secret);
                } else {
                    o.step = Step::PromoteJudge(secret);
                }
                format!("read whether {} became current", NAMES[secret])
            }
            Step::PromoteJudge(secret) => {
                self.judge(&mut after, i, secret, s.world.pointer[secret]);
                format!("read whether {} were published", NAMES[secret])
            }
            _ => return,
        };
        found.push((Action::of(i, what), after));
    }

    /// The next read that publishing needs, or the write of the pointer.
    fn values_read(&self, s: &mut State, i: usize) {
        let r = &mut s.operators[i];
        while let Step::ReadValue(secret) = r.step
            && r.named[secret] == r.read[secret]
        {
            r.step = if secret == ACCESS { Step::ReadValue(SIGNING) } else { Step::WritePointer };
        }
        if r.step == Step::WritePointer && r.named == r.read {
            self.published(s, i);
        }
    }

    fn write(&self, s: &State, i: usize, found: &mut Vec<(Action, State)>) {
        let r = s.operators[i];
        let none = Version::default();
        let mut done = *s;
        let (what, accepted) = match r.step {
            Step::WritePointer => {
                let fresh = s.world.pointer == r.read;
                if fresh {
                    self.publish(&mut done, r.named);
                }
                ("write the pointer".to_owned(), fresh)
            }
            Step::Clean(number) => {
                let (secret, label, from, to) = r.cleaning(number).unwrap_or_default();
                let what = format!("move {} of {}", LABELS[label], NAMES[secret]);
                (what, done.world.move_label(secret, label, from, to))
            }
            Step::Store(secret) => {
                let o = &mut done.operators[i];
                let version = o.fresh(i, self.changes[i], r.named[secret]);
                o.mine[secret] = version;
                done.world.store(secret, version);
                (format!("store {}", NAMES[secret]), true)
            }
            Step::Promote(secret) => {
                let (from, to) = (r.named[secret], r.mine[secret]);
                let accepted = done.world.move_label(secret, CURRENT, from, to);
                done.operators[i].promoted |= accepted;
                (format!("promote {}", NAMES[secret]), accepted)
            }
            Step::Abandon(secret) => {
                let what = format!("remove PENDING of {}", NAMES[secret]);
                (what, done.world.move_label(secret, PENDING, r.mine[secret], none))
            }
            _ => return,
        };
        let mut answered = done;
        self.answered(&mut answered, i, accepted);
        let how = if accepted { "" } else { ", refused" };
        found.push((Action::of(i, format!("{what}{how}")), answered));
        if self.faults {
            if accepted {
                self.lost(&mut done, i);
                found.push((Action::of(i, format!("{what}, done but not answered")), done));
            }
            let mut undone = *s;
            self.lost(&mut undone, i);
            found.push((Action::of(i, format!("{what}, neither done nor answered")), undone));
        }
    }

    fn answered(&self, s: &mut State, i: usize, accepted: bool) {
        let r = &mut s.operators[i];
        match r.step {
            Step::WritePointer if accepted => self.published(s, i),
            Step::WritePointer => r.publish(r.publish),
            Step::Clean(number) => {
                r.repeat |= !accepted;
                r.step = Step::Clean(number + 1);
                self.skip_clean(s, i);
            }
            Step::Store(secret) => {
                r.step = match self.after(i, secret) {
                    Some(next) => Step::ReadBase(next),
                    None if r.publish == Publish::Again => Step::Test(secret),
                    None => Step::Test(self.order(i)[0]),
                }
            }
            Step::Promote(secret) if accepted => self.promoted(s, i, secret),
            Step::Promote(secret) => r.step = Step::PromoteRead(secret),
            Step::Abandon(secret) => {
                r.mine[secret] = Version::default();
                self.skip_abandoned(s, i);
            }
            _ => {}
        }
    }

    /// The answer was lost. Publishing and cleaning are repeated, a promotion is sent again once.
    fn lost(&self, s: &mut State, i: usize) {
        s.disorder();
        let r = &mut s.operators[i];
        match r.step {
            Step::WritePointer | Step::Clean(_) => r.publish(r.publish),
            Step::Promote(_) if !r.resent => r.resent = true,
            Step::Abandon(secret) => {
                r.mine[secret] = Version::default();
                self.skip_abandoned(s, i);
            }
            _ => self.abandon(s, i, Outcome::Unclear),
        }
    }
}

const NAMES: [&str; 2] = ["access keys", "signing keys"];
const LABELS: [&str; 4] = ["CURRENT", "PREVIOUS", "PENDING", "IN_FORCE"];

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

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { sequence: 0, .. } => f.write_str("-"),
            Self { sequence, keys: [primary, secondary] } => write!(f, "{sequence}({primary},{secondary})"),
        }
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
