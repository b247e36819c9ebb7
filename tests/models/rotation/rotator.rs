//! A rotator: its steps, and what it does with each answer.

use super::world::{CURRENT, IN_FORCE, PENDING, PREVIOUS, Version, World, Write};
use super::{Action, Protocol, State, Variant};

/// What a rotator does next: one read or one write each, so that anything may come between any two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Step {
    /// Never started, crashed, or ended without success.
    #[default]
    Idle,
    /// Ended with success.
    Done,
    FlipReadPointer,
    FlipReadLabels,
    FlipReadValue,
    FlipWrite,
    SettleInForce,
    SettlePrevious,
    SettlePending,
    /// A broken variant only: labels read once more, without the pointer.
    SettleRead,
    /// A scheduled rotation asks whether its token has a value already.
    StoreRead,
    Store,
    Test,
    Promote,
    /// The promotion failed or was not answered: who is CURRENT now?
    PromoteRead,
    /// Gives way: takes PENDING off its own version.
    Withdraw,
    /// A broken variant only: makes its promotion undone and its version gone.
    Erase,
}

/// Which of the rotation's flips a rotator is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Flip {
    /// At the start: heals a pointer that lags behind CURRENT.
    #[default]
    First,
    /// At the start of finishSecret, which knows nothing of createSecret's.
    Finish,
    /// After the promotion: publishes its own version.
    Last,
}

/// What a rotator has in memory. What it will not use again is forgotten, so that states are alike.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Rotator {
    pub(super) step: Step,
    pub(super) flip: Flip,
    /// The pointer is as it was when read.
    pub(super) fresh: bool,
    /// PENDING was seen on its own version: it is stored or about to be, and was never CURRENT.
    pub(super) pending: bool,
    /// The version the pointer names, or is to name.
    pub(super) named: Version,
    /// The version seen bearing IN_FORCE, if it has to go from there. Likewise the next two.
    pub(super) in_force: Version,
    pub(super) previous: Version,
    pub(super) stray: Version,
    pub(super) mine: Version,
    /// The watched token was issued before this rotation was invoked.
    pub(super) after_token: bool,
    /// Nothing has crashed since this run began.
    pub(super) covers: bool,
    /// Crashed with its memory intact, as only a broken variant does.
    pub(super) down: bool,
}

/// How a write came back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reply {
    Accepted,
    Refused,
    /// It may be done, or not, or not yet.
    Lost,
}

impl Rotator {
    pub(super) fn running(&self) -> bool {
        self.step > Step::Done && !self.down
    }

    pub(super) fn scheduled(&self) -> bool {
        self.mine == Version::TOKEN
    }

    /// Begins (again) with the flip `flip`, all it has read forgotten.
    pub(super) fn again(&mut self, flip: Flip) {
        let Self { mine, after_token, covers, .. } = *self;
        let step = Step::FlipReadPointer;
        *self = Self { step, flip, mine, after_token, covers, ..Self::default() };
    }

    /// Ends; a scheduled rotation keeps its token for the next attempt.
    pub(super) fn end(&mut self, step: Step) {
        let kept = if self.scheduled() { *self } else { Self::default() };
        *self = Self { step, mine: kept.mine, after_token: kept.after_token, ..Self::default() };
    }
}

impl Protocol {
    /// The next action of rotator `i`, in every way it can go.
    pub(super) fn rotate(&self, s: &State, i: usize, found: &mut Vec<(Action, State)>) {
        let r = s.rotators[i];
        match r.step {
            Step::Idle | Step::Done => self.start(s, i, found),
            Step::FlipWrite
            | Step::SettleInForce
            | Step::SettlePrevious
            | Step::SettlePending
            | Step::Store
            | Step::Promote
            | Step::Withdraw => self.write(s, i, found),
            Step::FlipReadLabels | Step::PromoteRead if s.old != s.world.labels && self.is_lagging() => {
                for labels in [s.world.labels, s.old] {
                    let seen = World { labels, ..s.world };
                    self.read(s, i, &seen, false, found);
                }
            }
            Step::FlipReadValue | Step::StoreRead | Step::Test => {
                let asked = if r.step == Step::FlipReadValue { r.named } else { r.mine };
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
        r.covers = s.unsettled;
        r.again(Flip::First);
        if self.skips_heal() {
            r.step = Step::FlipReadLabels;
        }
        found.push((Action::of(i, "start"), after.stepped()));
    }

    /// A read, of the world as it is `seen`.
    fn read(&self, s: &State, i: usize, seen: &World, kept: bool, found: &mut Vec<(Action, State)>) {
        let mut after = *s;
        let r = &mut after.rotators[i];
        let what = match r.step {
            Step::FlipReadPointer => {
                r.fresh = true;
                r.named = seen.pointer;
                r.step = Step::FlipReadLabels;
                "flip: read pointer"
            }
            Step::FlipReadLabels => {
                self.labels_read(&mut after, i, seen);
                "flip: read labels"
            }
            Step::FlipReadValue => {
                let value = seen.value(r.named, kept).filter(|it| !self.goes_back(*it, seen.pointer));
                match value {
                    Some(version) => {
                        r.named = version;
                        r.step = Step::FlipWrite;
                    }
                    None => r.again(r.flip),
                }
                "flip: read value"
            }
            Step::SettleRead => {
                r.in_force = seen.labels[IN_FORCE].unless(r.named);
                r.previous = seen.labels[PREVIOUS].unless(r.named);
                self.settle(&mut after, i);
                "settle: read labels"
            }
            Step::StoreRead => {
                let stored = seen.value(r.mine, kept).is_some();
                r.step = if stored { Step::Test } else { Step::Store };
                "store: read own value"
            }
            Step::Test => {
                match seen.value(r.mine, kept) {
                    None => r.end(Step::Idle),
                    Some(_) if r.scheduled() => r.again(Flip::Finish),
                    Some(_) => r.step = Step::Promote,
                }
                "test"
            }
            Step::PromoteRead => {
                if seen.labels[CURRENT].is(r.mine) {
                    r.again(Flip::Last);
                } else if seen.labels[PENDING].is(r.mine) {
                    r.step = Step::Withdraw;
                } else {
                    r.end(Step::Idle);
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
        if self.skips_heal() && r.flip == Flip::First {
            r.step = Step::Store;
            return;
        }
        r.in_force = seen.labels[IN_FORCE].unless(current);
        r.previous = seen.labels[PREVIOUS].unless(current);
        if r.scheduled() && r.flip != Flip::First && current.is(r.mine) && !self.is(Variant::KeepStray) {
            r.stray = seen.labels[PENDING].unless(current);
        }
        r.pending = r.scheduled() && seen.labels[PENDING].is(r.mine);
        if self.is(Variant::SettleFirst) && r.flip == Flip::Last {
            self.settle(s, i);
        } else if there {
            self.flipped(s, i);
        } else {
            r.step = Step::FlipReadValue;
        }
    }

    /// The pointer names CURRENT: what comes after that depends on which flip it was.
    fn flipped(&self, s: &mut State, i: usize) {
        let r = &mut s.rotators[i];
        r.fresh = r.fresh && self.is(Variant::FlipFirst);
        match r.flip {
            Flip::Last if !r.named.is(r.mine) => return r.end(Step::Idle),
            Flip::Finish if r.named.is(r.mine) => r.flip = Flip::Last,
            // The token is neither CURRENT nor waiting: superseded, or given up. Promoting it now would
            // bring back a key that was in force before.
            Flip::Finish if !r.pending && !self.is(Variant::PromoteUnasked) => return r.end(Step::Idle),
            Flip::Finish => {
                (r.in_force, r.previous, r.pending) = Default::default();
                r.step = Step::Promote;
                return;
            }
            Flip::First | Flip::Last => {}
        }
        if self.is(Variant::SettleBlindly) {
            r.step = Step::SettleRead;
        } else {
            self.settle(s, i);
        }
    }

    /// The next label to put right, or what comes after settling.
    fn settle(&self, s: &mut State, i: usize) {
        let r = &mut s.rotators[i];
        if r.in_force != Version::NONE {
            r.step = Step::SettleInForce;
        } else if r.previous != Version::NONE {
            r.step = Step::SettlePrevious;
        } else if r.stray != Version::NONE {
            r.step = Step::SettlePending;
        } else if r.flip != Flip::Last {
            self.settled(r);
        } else if self.is(Variant::SettleFirst) && s.world.pointer != r.mine {
            r.step = Step::FlipReadValue;
        } else {
            s.issuer.dead |= r.after_token;
            s.unsettled &= !r.covers;
            r.end(Step::Done);
        }
    }

    /// The old is in order: now the new version.
    fn settled(&self, r: &mut Rotator) {
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
            Step::FlipWrite => ("flip: write pointer", self.pointer_write(r.named, r.fresh)),
            Step::SettleInForce => ("settle: move IN_FORCE", label(IN_FORCE, r.in_force, r.named)),
            Step::SettlePrevious => ("settle: remove PREVIOUS", label(PREVIOUS, r.previous, Version::NONE)),
            Step::SettlePending => ("settle: remove PENDING", label(PENDING, r.stray, Version::NONE)),
            Step::Store if self.is(Variant::FlipFirst) => ("store", self.pointer_write(s.unused(1), r.fresh)),
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
                answer(done, Reply::Accepted, "");
                answer(done, Reply::Lost, ", done but not answered");
            } else {
                answer(done, Reply::Refused, ", refused");
            }
        }
        let may_be_late = matches!(r.step, Step::FlipWrite | Step::Store | Step::Promote);
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
            (Step::FlipWrite, Reply::Accepted) => self.flipped(s, i),
            (Step::FlipWrite, Reply::Lost) if self.is(Variant::EraseOnLostFlip) && r.flip == Flip::Last => {
                r.step = Step::Erase;
            }
            (Step::SettleInForce | Step::SettlePrevious | Step::SettlePending, Reply::Accepted) => {
                self.next_label(s, i);
            }
            (Step::SettleInForce | Step::SettlePrevious | Step::SettlePending, Reply::Refused)
                if self.is(Variant::IgnoreRefusal) =>
            {
                self.next_label(s, i);
            }
            // Whatever came between, or may yet come: look again.
            (Step::FlipWrite | Step::SettleInForce | Step::SettlePrevious | Step::SettlePending, _) => {
                r.again(r.flip);
            }
            (Step::Store, _) => {
                if let Write::Value(version) | Write::Pointer { to: version, .. } = write
                    && !r.scheduled()
                {
                    // A version that was not stored will not be found by the test.
                    let there = reply == Reply::Accepted || self.is_late() || stored == version;
                    r.mine = if there { version } else { Version::NONE };
                }
                r.step = Step::Test;
            }
            (Step::Promote, Reply::Accepted) => r.again(Flip::Last),
            (Step::Promote, _) => {
                r.named = Version::NONE;
                r.step = Step::PromoteRead;
            }
            (_, Reply::Lost) => r.step = Step::PromoteRead,
            (..) => r.end(Step::Idle),
        }
    }

    fn next_label(&self, s: &mut State, i: usize) {
        let r = &mut s.rotators[i];
        match r.step {
            Step::SettleInForce => r.in_force = Version::NONE,
            Step::SettlePrevious => r.previous = Version::NONE,
            _ => r.stray = Version::NONE,
        }
        self.settle(s, i);
    }

    fn skips_heal(&self) -> bool {
        self.is(Variant::NoHeal) || self.is(Variant::NoHealNoLabel)
    }

    fn pointer_write(&self, to: Version, fresh: bool) -> Write {
        let fresh = fresh || self.is(Variant::UnconditionalFlip);
        Write::Pointer { to, fresh }
    }
}
