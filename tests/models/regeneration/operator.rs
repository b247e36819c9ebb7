//! An operator: its steps, and its reaction to each answer.

use super::world::{ACCESS, CURRENT, IN_FORCE, LABELS, NAMES, PENDING, PREVIOUS, SIGNING, Version};
use super::{Action, Change, Protocol, State, Variant};

/// How often the second version of a regeneration is made again, and one more.
const ATTEMPTS: u8 = 3;

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Step {
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
pub(super) enum Publish {
    /// The first one repairs a pointer that lags behind.
    #[default]
    First,
    /// The second version was overtaken after the first one had become current.
    Again,
    /// The last one publishes the own versions.
    Last,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    #[default]
    Open,
    Success,
    Conflict,
    /// An error: the effect is unclear.
    Unclear,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Operator {
    pub(super) step: Step,
    pub(super) publish: Publish,
    /// The versions that the pointer named, later the versions that it is to name.
    pub(super) named: [Version; 2],
    /// The pointer as it was read.
    pub(super) read: [Version; 2],
    /// The labels as they were read.
    pub(super) labels: [[Version; 4]; 2],
    /// A move of a label was refused, or its answer was lost.
    pub(super) repeat: bool,
    pub(super) mine: [Version; 2],
    /// The answer to the promotion was lost, and it was sent again.
    pub(super) resent: bool,
    /// The outcome to report after the pending versions are removed.
    pub(super) outcome: Outcome,
    /// How often its second version was overtaken in this run.
    pub(super) overtaken: u8,
    /// How often it has started, and how many versions it has made.
    pub(super) runs: u8,
    pub(super) made: u8,
    /// One of its versions was made current in this run.
    pub(super) promoted: bool,
    /// No crash and no lost answer has happened since the start of this run.
    pub(super) covers: bool,
    /// The keys that were in force at the start, and later the last signing keys that were in force together with the
    /// access keys of the start.
    pub(super) former: [[u8; 2]; 2],
}

impl Operator {
    pub(super) fn running(&self) -> bool {
        self.step != Step::Idle
    }

    pub(super) fn publish(&mut self, publish: Publish) {
        self.publish = publish;
        self.step = Step::ReadPointer;
        (self.read, self.named, self.labels, self.repeat) = Default::default();
    }

    /// The move that cleaning step `number` makes, if one is needed.
    pub(super) fn cleaning(&self, number: usize) -> Option<(usize, usize, Version, Version)> {
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
    pub(super) fn fresh(&mut self, operator: usize, change: Change, base: Version) -> Version {
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

impl Protocol {
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

    pub(super) fn end(&self, s: &mut State, i: usize, outcome: Outcome) {
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

    pub(super) fn step(&self, s: &State, i: usize, found: &mut Vec<(Action, State)>) {
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
