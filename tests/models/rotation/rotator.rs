//! A rotator: its steps, and its reaction to each answer.

use super::world::{CURRENT, IN_FORCE, PENDING, PREVIOUS, Version, World, Write};
use super::{Action, Protocol, State, Variant};

/// The next step of a rotator. Each step is one read or one write, so other actions may come between any two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Step {
    /// Never started, crashed, or ended without success.
    #[default]
    Idle,
    /// Ended with success.
    Done,
    PublishReadPointer,
    PublishReadLabels,
    PublishReadValue,
    PublishWrite,
    CleanInForce,
    CleanPrevious,
    CleanPending,
    /// Broken variant only: reads the labels once more, without the pointer.
    CleanRead,
    /// Scheduled rotation: reads whether its token has a value already.
    StoreRead,
    Store,
    Test,
    Promote,
    /// The promotion failed or was not answered. Reads which version is CURRENT.
    PromoteRead,
    /// Gives way: takes PENDING off its own version.
    Withdraw,
    /// Broken variant only: undoes its promotion and deletes its version.
    Erase,
}

/// The publication that a rotator is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Publish {
    /// At the start: repairs a pointer that lags behind CURRENT.
    #[default]
    First,
    /// At the start of finishSecret, which shares no memory with createSecret.
    Finish,
    /// After the promotion: publishes its own version.
    Last,
}

/// The memory of a rotator. A value that it does not use again is reset, so that fewer states differ.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Rotator {
    pub(super) step: Step,
    pub(super) publish: Publish,
    /// The pointer has not changed since it was read.
    pub(super) fresh: bool,
    /// PENDING was on its own version, so the version was never CURRENT.
    pub(super) pending: bool,
    /// The version that the pointer names, or is to name.
    pub(super) named: Version,
    /// The version that held IN_FORCE, if the label has to move. The next two fields are PREVIOUS and PENDING.
    pub(super) in_force: Version,
    pub(super) previous: Version,
    pub(super) orphan: Version,
    pub(super) mine: Version,
    /// The watched token was issued before this rotation was invoked.
    pub(super) after_token: bool,
    /// No rotator has crashed since this run began.
    pub(super) covers: bool,
    /// Its version was made current in this run.
    pub(super) promoted: bool,
    /// The answer to its promotion was lost, so a later refusal does not mean that it was not done.
    pub(super) unanswered: bool,
    /// CURRENT has moved since this scheduled rotation read the version that it replaces.
    pub(super) base_moved: bool,
    /// Broken variant only: crashed with its memory intact.
    pub(super) down: bool,
}

/// The reply to a write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reply {
    Accepted,
    Refused,
    /// The write may be done, or not, or not yet.
    Lost,
}

impl Rotator {
    pub(super) fn running(&self) -> bool {
        self.step > Step::Done && !self.down
    }

    pub(super) fn scheduled(&self) -> bool {
        self.mine == Version::TOKEN
    }

    /// Begins the publication `publish` from its start.
    pub(super) fn again(&mut self, publish: Publish) {
        let Self { mine, after_token, covers, promoted, .. } = *self;
        let step = Step::PublishReadPointer;
        *self = Self { step, publish, mine, after_token, covers, promoted, ..Self::default() };
    }

    /// Ends. A scheduled rotation keeps its token for the next attempt.
    pub(super) fn end(&mut self, step: Step) {
        let kept = if self.scheduled() { *self } else { Self::default() };
        *self = Self { step, mine: kept.mine, after_token: kept.after_token, ..Self::default() };
    }
}

impl Protocol {
    /// The next action of rotator `i`, with every result that it can have.
    pub(super) fn rotate(&self, s: &State, i: usize, found: &mut Vec<(Action, State)>) {
        let r = s.rotators[i];
        match r.step {
            Step::Idle | Step::Done => self.start(s, i, found),
            Step::PublishWrite
            | Step::CleanInForce
            | Step::CleanPrevious
            | Step::CleanPending
            | Step::Store
            | Step::Promote
            | Step::Withdraw => self.write(s, i, found),
            Step::PublishReadLabels | Step::PromoteRead if s.old != s.world.labels && self.is_lagging() => {
                for labels in [s.world.labels, s.old] {
                    let seen = World { labels, ..s.world };
                    self.read(s, i, &seen, false, found);
                }
            }
            Step::PublishReadValue | Step::StoreRead | Step::Test => {
                let asked = if r.step == Step::PublishReadValue { r.named } else { r.mine };
                for kept in self.fates(&s.world, asked) {
                    self.read(s, i, &s.world, *kept, found);
                }
            }
            _ => self.read(s, i, &s.world, false, found),
        }
    }

    fn start(&self, s: &State, i: usize, found: &mut Vec<(Action, State)>) {
        let mut after = *s;
        let r = &mut after.rotators[i];
        if !self.is_scheduled(i) || r.mine == Version::NONE {
            r.after_token = s.issuer.has_token();
        }
        if self.is_scheduled(i) && r.mine == Version::NONE {
            if s.world.labels[PENDING] != Version::NONE {
                return;
            }
            // Secrets Manager makes the version, without a value, before the first step.
            r.mine = Version::TOKEN;
            after.world.labels[PENDING] = Version::TOKEN;
        }
        r.covers = s.disordered;
        r.again(Publish::First);
        if self.skips_repair() {
            r.step = Step::PublishReadLabels;
        }
        found.push((Action::of(i, "start"), after.stepped()));
    }

    /// A read of the world as `seen`.
    fn read(&self, s: &State, i: usize, seen: &World, kept: bool, found: &mut Vec<(Action, State)>) {
        let mut after = *s;
        let r = &mut after.rotators[i];
        let what = match r.step {
            Step::PublishReadPointer => {
                r.fresh = true;
                r.named = seen.pointer;
                r.step = Step::PublishReadLabels;
                "publish: read pointer"
            }
            Step::PublishReadLabels => {
                self.labels_read(&mut after, i, seen);
                "publish: read labels"
            }
            Step::PublishReadValue => {
                let value = seen.value(r.named, kept).filter(|it| !self.goes_back(*it, seen.pointer));
                match value {
                    Some(version) => {
                        r.named = version;
                        r.step = Step::PublishWrite;
                    }
                    None => r.again(r.publish),
                }
                "publish: read value"
            }
            Step::CleanRead => {
                r.in_force = seen.labels[IN_FORCE].unless(r.named);
                r.previous = seen.labels[PREVIOUS].unless(r.named);
                self.clean_labels(&mut after, i);
                "clean labels: read labels"
            }
            Step::StoreRead => {
                let stored = seen.value(r.mine, kept).is_some();
                r.step = if stored { Step::Test } else { Step::Store };
                "store: read own value"
            }
            Step::Test => {
                match seen.value(r.mine, kept) {
                    None => after.conflict(i),
                    Some(_) if r.scheduled() => r.again(Publish::Finish),
                    Some(_) => r.step = Step::Promote,
                }
                "test"
            }
            Step::PromoteRead => {
                if seen.labels[CURRENT].is(r.mine) {
                    r.again(Publish::Last);
                } else if seen.labels[PENDING].is(r.mine) {
                    r.step = Step::Withdraw;
                } else {
                    after.conflict(i);
                }
                "promote: read labels"
            }
            _ => {
                let mine = r.mine;
                r.end(Step::Idle);
                after.world.labels[CURRENT] = seen.labels[PREVIOUS];
                after.world.labels = after.world.labels.map(|holder| holder.unless(mine));
                "erase"
            }
        };
        found.push((Action::of(i, what), after.stepped()));
    }

    fn labels_read(&self, s: &mut State, i: usize, seen: &World) {
        let r = &mut s.rotators[i];
        let current = seen.labels[CURRENT];
        let there = r.named.is(current);
        r.named = current;
        r.base_moved = false;
        if self.skips_repair() && r.publish == Publish::First {
            r.step = Step::Store;
            return;
        }
        r.in_force = seen.labels[IN_FORCE].unless(current);
        r.previous = seen.labels[PREVIOUS].unless(current);
        if r.scheduled() && r.publish != Publish::First && current.is(r.mine) && !self.is(Variant::KeepOrphan)
        {
            r.orphan = seen.labels[PENDING].unless(current);
        }
        r.pending = r.scheduled() && seen.labels[PENDING].is(r.mine);
        if self.is(Variant::CleanFirst) && r.publish == Publish::Last {
            self.clean_labels(s, i);
        } else if there {
            self.published(s, i);
        } else {
            r.step = Step::PublishReadValue;
        }
    }

    /// The pointer names CURRENT. The next step depends on the publication.
    fn published(&self, s: &mut State, i: usize) {
        let r = &mut s.rotators[i];
        r.fresh = r.fresh && self.is(Variant::PublishFirst);
        match r.publish {
            Publish::Last if !r.named.is(r.mine) && self.is(Variant::OwnVersionOnly) => return s.conflict(i),
            // The labels are reported late: they are not yet those of the own promotion.
            Publish::Last if self.is_lagging() && r.named < r.mine => return r.again(Publish::Last),
            Publish::Finish if r.named.is(r.mine) => r.publish = Publish::Last,
            // The token is neither CURRENT nor PENDING: overtaken, or withdrawn. A promotion now would bring back a
            // key that was in force before.
            Publish::Finish if !r.pending && !self.is(Variant::PromoteUnasked) => return r.end(Step::Idle),
            Publish::Finish if s.token_overtaken && !self.promotes_overtaken() => {
                r.step = Step::Withdraw;
                return;
            }
            Publish::Finish => {
                (r.in_force, r.previous, r.pending) = Default::default();
                r.step = Step::Promote;
                return;
            }
            Publish::First | Publish::Last => {}
        }
        if self.is(Variant::CleanBlindly) {
            r.step = Step::CleanRead;
        } else {
            self.clean_labels(s, i);
        }
    }

    /// The next label to clean, or the step after cleaning.
    fn clean_labels(&self, s: &mut State, i: usize) {
        let r = &mut s.rotators[i];
        if r.in_force != Version::NONE {
            r.step = Step::CleanInForce;
        } else if r.previous != Version::NONE {
            r.step = Step::CleanPrevious;
        } else if r.orphan != Version::NONE {
            r.step = Step::CleanPending;
        } else if r.publish != Publish::Last {
            self.cleaned(r);
        } else if self.is(Variant::CleanFirst) && s.world.pointer != r.mine {
            r.step = Step::PublishReadValue;
        } else {
            s.issuer.revoked |= r.after_token;
            s.disordered &= !r.covers;
            r.end(Step::Done);
        }
    }

    /// The labels are clean. The next step concerns the new version.
    fn cleaned(&self, r: &mut Rotator) {
        let current = r.named.is(r.mine);
        if !r.scheduled() {
            r.step = Step::Store;
            return;
        }
        if self.is(Variant::StoreUnasked) || (r.pending && !current) {
            r.step = Step::StoreRead;
        } else if current {
            r.step = Step::Test;
        } else {
            return r.end(Step::Idle);
        }
        r.pending = false;
        r.named = Version::NONE;
    }

    fn write(&self, s: &State, i: usize, found: &mut Vec<(Action, State)>) {
        let r = s.rotators[i];
        let label = |label: usize, from, to| Write::StagingLabel { label: label as u8, from, to };
        let (what, write) = match r.step {
            Step::PublishWrite => ("publish: write pointer", self.pointer_write(r.named, r.fresh)),
            Step::CleanInForce => ("clean labels: move IN_FORCE", label(IN_FORCE, r.in_force, r.named)),
            Step::CleanPrevious => {
                ("clean labels: remove PREVIOUS", label(PREVIOUS, r.previous, Version::NONE))
            }
            Step::CleanPending => ("clean labels: remove PENDING", label(PENDING, r.orphan, Version::NONE)),
            Step::Store if self.is(Variant::PublishFirst) => {
                ("store", self.pointer_write(s.unused(1), r.fresh))
            }
            Step::Store => ("store", Write::Value(s.unused(if r.scheduled() { 33 } else { 1 }))),
            Step::Promote => ("promote", label(CURRENT, r.named, r.mine)),
            _ => ("promote: remove PENDING", label(PENDING, r.mine, Version::NONE)),
        };
        let mut answer = |mut after: State, reply, how| {
            self.answered(&mut after, i, write, reply);
            found.push((Action { how, ..Action::of(i, what) }, after.stepped()));
        };
        for kept in self.fates(&s.world, write.asks_for()) {
            let mut done = *s;
            if done.write(write, *kept) {
                if r.step == Step::Store && r.scheduled() {
                    done.token_overtaken = r.base_moved;
                }
                answer(done, Reply::Accepted, "");
                answer(done, Reply::Lost, ", done but not answered");
            } else {
                answer(done, Reply::Refused, ", refused");
            }
        }
        let may_be_late = matches!(r.step, Step::PublishWrite | Step::Store | Step::Promote);
        if !self.is_late() || !may_be_late {
            answer(*s, Reply::Lost, ", neither done nor answered");
        } else if s.mail.is_none() {
            answer(State { mail: Some(write), ..*s }, Reply::Lost, ", not answered");
        }
    }

    fn answered(&self, s: &mut State, i: usize, write: Write, reply: Reply) {
        let stored = s.world.labels[PENDING];
        let r = &mut s.rotators[i];
        match (r.step, reply) {
            (Step::PublishWrite, Reply::Accepted) => self.published(s, i),
            (Step::PublishWrite, Reply::Lost)
                if self.is(Variant::EraseOnLostPublish) && r.publish == Publish::Last =>
            {
                r.step = Step::Erase;
            }
            (Step::CleanInForce | Step::CleanPrevious | Step::CleanPending, Reply::Accepted) => {
                self.next_label(s, i);
            }
            // Another write may have come in between, or may still come. Reads again.
            (Step::PublishWrite | Step::CleanInForce | Step::CleanPrevious | Step::CleanPending, _) => {
                r.again(r.publish);
            }
            (Step::Store, _) => {
                if let Write::Value(version) | Write::Pointer { to: version, .. } = write
                    && !r.scheduled()
                {
                    // The test does not find a version that was not stored.
                    let there = reply == Reply::Accepted || self.is_late() || stored == version;
                    r.mine = if there { version } else { Version::NONE };
                }
                r.step = Step::Test;
            }
            (Step::Promote, Reply::Accepted) => r.again(Publish::Last),
            (Step::Promote, _) => {
                r.named = Version::NONE;
                r.unanswered = reply == Reply::Lost;
                r.step = Step::PromoteRead;
            }
            (_, Reply::Lost) => r.step = Step::PromoteRead,
            (..) => s.conflict(i),
        }
    }

    fn next_label(&self, s: &mut State, i: usize) {
        let r = &mut s.rotators[i];
        match r.step {
            Step::CleanInForce => r.in_force = Version::NONE,
            Step::CleanPrevious => r.previous = Version::NONE,
            _ => r.orphan = Version::NONE,
        }
        self.clean_labels(s, i);
    }

    fn promotes_overtaken(&self) -> bool {
        self.is(Variant::PromoteOvertaken) || self.is(Variant::PromoteUnasked)
    }

    fn skips_repair(&self) -> bool {
        self.is(Variant::NoRepair) || self.is(Variant::NoRepairNoLabel)
    }

    fn pointer_write(&self, to: Version, fresh: bool) -> Write {
        let fresh = fresh || self.is(Variant::UnconditionalPublish);
        Write::Pointer { to, fresh }
    }
}
