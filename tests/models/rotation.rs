//! Rotating the signing keys.

use std::fmt;

use crate::search::{Found, Model, explore};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Real,
    FlipFirst,
    Resume,
    UnconditionalFlip,
    CachedVerifier,
    CachedIssuer,
    SettleFirst,
    NoLabelNoHeal,
    NoLabel,
    NoHeal,
    EraseOnLostFlip,
    FewerCopies,
    UnguardedStore,
    UnguardedFinish,
    Unguarded,
    SettleRereads,
    KeepsStray,
    IgnoreRefused,
    FinishSettles,
    StoreIfCurrent,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    One,
    Two,
    Scheduled,
}

struct Protocol {
    variant: Variant,
    who: Who,
    late: bool,
    watch: &'static [&'static str],
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Version(u8);

const CURRENT: usize = 0;
const PREVIOUS: usize = 1;
const PENDING: usize = 2;
const IN_FORCE: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Write {
    Flip { to: Version, fresh: bool },
    Move { label: u8, from: Version, to: Version },
    Put { version: Version },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reply {
    Accepted,
    Refused,
    Lost,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Step {
    #[default]
    Idle,
    Done,
    ReadPointer,
    ReadLabels,
    ReadValue,
    WritePointer,
    SeeLabels,
    MoveInForce,
    DropPrevious,
    DropPending,
    AskStored,
    Store,
    Test,
    Promote,
    RereadLabels,
    Withdraw,
    Erase,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Phase {
    #[default]
    Start,
    Finish,
    Publish,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Rotator {
    step: Step,
    phase: Phase,
    fresh: bool,
    after_token: bool,
    covers: bool,
    pending: bool,
    down: bool,
    named: Version,
    in_force: Version,
    previous: Version,
    stray: Version,
    mine: Version,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Mint {
    #[default]
    Idle,
    Asked,
    Read,
    Token,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Issuer {
    mint: Mint,
    tries: u8,
    calm: bool,
    dead: bool,
    version: Version,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct State {
    bearers: [Version; 4],
    pointer: Version,
    aside: Version,
    named_token: Version,
    rotators: [Rotator; 2],
    issuer: Issuer,
    mail: Option<Write>,
    unsettled: bool,
    unavailable: bool,
}

impl Version {
    const NONE: Self = Self(0);
    const TOKEN: Self = Self(32);

    fn is(self, other: Self) -> bool {
        self.0 == other.0 || (self.0 >= 32 && other.0 >= 32)
    }
}

impl Rotator {
    fn running(&self) -> bool {
        self.step > Step::Done && !self.down
    }

    fn flip(&mut self, phase: Phase) {
        self.step = Step::ReadPointer;
        self.phase = phase;
        self.fresh = false;
        self.pending = false;
        self.named = Version::NONE;
        self.in_force = Version::NONE;
        self.previous = Version::NONE;
        self.stray = Version::NONE;
    }

    fn scheduled(&self) -> bool {
        self.mine == Version::TOKEN
    }

    fn end(&mut self, step: Step) {
        let kept = if self.scheduled() { self.mine } else { Version::NONE };
        let after_token = self.after_token && self.scheduled();
        *self = Self { step, mine: kept, after_token, ..Self::default() };
    }
}

impl State {
    fn stored(&self, version: Version) -> Option<Version> {
        self.bearers.into_iter().find(|bearer| bearer.is(version)).filter(|it| *it != Version::NONE)
    }

    fn running(&self) -> bool {
        self.rotators[0].running() || self.rotators[1].running()
    }

    fn each(&mut self, visit: &mut impl FnMut(&mut Version)) {
        for bearer in &mut self.bearers {
            visit(bearer);
        }
        visit(&mut self.pointer);
        visit(&mut self.aside);
        visit(&mut self.named_token);
        for r in &mut self.rotators {
            visit(&mut r.named);
            visit(&mut r.in_force);
            visit(&mut r.previous);
            visit(&mut r.stray);
            visit(&mut r.mine);
        }
        match &mut self.mail {
            Some(Write::Flip { to, .. }) => visit(to),
            Some(Write::Move { from, to, .. }) => {
                visit(from);
                visit(to);
            }
            Some(Write::Put { version }) => visit(version),
            None => {}
        }
        visit(&mut self.issuer.version);
    }

    fn unused(mut self, from: u8) -> Version {
        let mut used = 0_u64;
        self.each(&mut |version| used |= 1 << version.0);
        let mut id = from;
        while used & (1 << id) != 0 {
            id += 1;
        }
        Version(id)
    }

    fn renamed(mut self) -> Self {
        let mut names = [0_u8; 64];
        let mut next = [1_u8, 33];
        self.each(&mut |version| {
            let class = usize::from(version.0 >= 32);
            if version.0 == 0 || version.0 == 32 {
                return;
            }
            let name = &mut names[usize::from(version.0)];
            if *name == 0 {
                *name = next[class];
                next[class] += 1;
            }
            version.0 = *name;
        });
        self
    }

    fn crashed(&mut self) {
        self.unsettled = true;
        for r in &mut self.rotators {
            r.covers = false;
        }
    }
}

impl Protocol {
    fn is(&self, variant: Variant) -> bool {
        self.variant == variant
    }

    fn apply(&self, s: &mut State, write: Write) -> Reply {
        match write {
            Write::Flip { to, fresh } => {
                if !fresh && !self.is(Variant::UnconditionalFlip) {
                    return Reply::Refused;
                }
                s.pointer = to;
                for r in &mut s.rotators {
                    r.fresh = false;
                }
                if let Some(Write::Flip { fresh, .. }) = &mut s.mail {
                    *fresh = false;
                }
            }
            Write::Move { label, from, to } => {
                let label = usize::from(label);
                let bearer = s.bearers[label];
                if !bearer.is(from) {
                    return Reply::Refused;
                }
                if to == Version::NONE {
                    s.bearers[label] = to;
                    return Reply::Accepted;
                }
                let Some(to) = s.stored(to).filter(|to| label != CURRENT || *to != Version::TOKEN) else {
                    return Reply::Refused;
                };
                s.bearers[label] = to;
                if label == CURRENT {
                    s.bearers[PREVIOUS] = bearer;
                    if s.bearers[PENDING] == to {
                        s.bearers[PENDING] = Version::NONE;
                    }
                }
            }
            Write::Put { version } => {
                if s.stored(version).is_some_and(|stored| stored != Version::TOKEN) {
                    return Reply::Refused;
                }
                s.bearers[PENDING] = version;
            }
        }
        Reply::Accepted
    }

    fn write(
        &self,
        s: &State,
        i: usize,
        what: &'static str,
        write: Write,
        to: &mut Vec<(Action, State)>,
        then: impl Fn(&mut State, Reply),
    ) {
        let who = name(i);
        let mut after = *s;
        let reply = self.apply(&mut after, write);
        then(&mut after, reply);
        let outcome = if reply == Reply::Accepted { "" } else { " (refused)" };
        step(to, who, what, outcome, after);

        if self.late {
            if s.mail.is_none() {
                let mut after = *s;
                after.mail = Some(write);
                then(&mut after, Reply::Lost);
                step(to, who, what, " (no answer)", after);
            }
            return;
        }
        let mut after = *s;
        then(&mut after, Reply::Lost);
        step(to, who, what, " (not done, no answer)", after);
        if reply == Reply::Accepted {
            let mut after = *s;
            self.apply(&mut after, write);
            then(&mut after, Reply::Lost);
            step(to, who, what, " (done, no answer)", after);
        }
    }

    fn rotate(&self, s: &State, i: usize, to: &mut Vec<(Action, State)>) {
        let mut after = *s;
        let r = &mut after.rotators[i];
        let what = match r.step {
            Step::Idle | Step::Done => return self.start(s, i, to),
            Step::ReadPointer => {
                r.fresh = true;
                r.named = s.pointer;
                r.step = Step::ReadLabels;
                "flip: read pointer"
            }
            Step::ReadLabels => {
                self.labels_read(s, &mut after, i);
                "flip: read labels"
            }
            Step::ReadValue => {
                match s.stored(r.named) {
                    Some(version) => {
                        r.named = version;
                        r.step = Step::WritePointer;
                    }
                    None => r.flip(r.phase),
                }
                "flip: read value"
            }
            Step::SeeLabels => {
                let named = r.named;
                let seen = |label: usize| Some(s.bearers[label]).filter(|it| !it.is(named)).unwrap_or_default();
                r.in_force = seen(IN_FORCE);
                r.previous = seen(PREVIOUS);
                self.settle(&mut after, i);
                "settle: read labels"
            }
            Step::AskStored => {
                let stored = s.stored(r.mine).is_some_and(|it| it != Version::TOKEN);
                r.step = if stored { Step::Test } else { Step::Store };
                "store: read own value"
            }
            Step::Test => {
                if s.stored(r.mine).is_none_or(|it| it == Version::TOKEN) {
                    r.end(Step::Idle);
                } else if r.scheduled() {
                    r.flip(Phase::Finish);
                } else {
                    r.step = Step::Promote;
                }
                "test"
            }
            Step::RereadLabels => {
                if s.bearers[CURRENT].is(r.mine) {
                    r.flip(Phase::Publish);
                } else if s.bearers[PENDING].is(r.mine) {
                    r.step = Step::Withdraw;
                } else {
                    r.end(Step::Idle);
                }
                "promote: read labels"
            }
            Step::Erase => {
                let mine = r.mine;
                r.end(Step::Idle);
                after.bearers[CURRENT] = s.bearers[PREVIOUS];
                for bearer in &mut after.bearers {
                    if bearer.is(mine) {
                        *bearer = Version::NONE;
                    }
                }
                "erase own version"
            }
            Step::WritePointer
            | Step::MoveInForce
            | Step::DropPrevious
            | Step::DropPending
            | Step::Store
            | Step::Promote
            | Step::Withdraw => return self.writes(s, i, to),
        };
        step(to, name(i), what, "", after);
    }

    fn writes(&self, s: &State, i: usize, to: &mut Vec<(Action, State)>) {
        let r = s.rotators[i];
        match r.step {
            Step::WritePointer => {
                let write = Write::Flip { to: r.named, fresh: r.fresh };
                self.write(s, i, "flip: write pointer", write, to, |after, reply| match reply {
                    Reply::Accepted => self.flipped(after, i),
                    Reply::Lost if self.is(Variant::EraseOnLostFlip) && r.phase == Phase::Publish => {
                        after.rotators[i].step = Step::Erase;
                    }
                    _ => after.rotators[i].flip(r.phase),
                });
            }
            Step::MoveInForce => {
                let write = Write::Move { label: IN_FORCE as u8, from: r.in_force, to: r.named };
                self.write(s, i, "settle: move IN_FORCE", write, to, |after, reply| {
                    after.rotators[i].in_force = Version::NONE;
                    match reply {
                        Reply::Refused if !self.is(Variant::IgnoreRefused) && !self.is(Variant::FinishSettles) => after.rotators[i].flip(r.phase),
                        Reply::Lost => after.rotators[i].flip(r.phase),
                        _ => self.settle(after, i),
                    }
                });
            }
            Step::DropPrevious => {
                let write = Write::Move { label: PREVIOUS as u8, from: r.previous, to: Version::NONE };
                self.write(s, i, "settle: remove PREVIOUS", write, to, |after, reply| {
                    after.rotators[i].previous = Version::NONE;
                    match reply {
                        Reply::Refused if !self.is(Variant::IgnoreRefused) && !self.is(Variant::FinishSettles) => after.rotators[i].flip(r.phase),
                        Reply::Lost => after.rotators[i].flip(r.phase),
                        _ => self.settle(after, i),
                    }
                });
            }
            Step::DropPending => {
                let write = Write::Move { label: PENDING as u8, from: r.stray, to: Version::NONE };
                self.write(s, i, "settle: remove PENDING", write, to, |after, reply| {
                    after.rotators[i].stray = Version::NONE;
                    match reply {
                        Reply::Lost => after.rotators[i].flip(r.phase),
                        _ => self.settle(after, i),
                    }
                });
            }
            Step::Store => {
                let mine = s.unused(if r.scheduled() { 33 } else { 1 });
                let write = if self.is(Variant::FlipFirst) {
                    Write::Flip { to: mine, fresh: r.fresh }
                } else {
                    Write::Put { version: mine }
                };
                self.write(s, i, "store", write, to, |after, _| {
                    let r = &mut after.rotators[i];
                    if !r.scheduled() {
                        r.mine = mine;
                    }
                    r.step = Step::Test;
                });
            }
            Step::Promote => {
                let write = Write::Move { label: CURRENT as u8, from: r.named, to: r.mine };
                self.write(s, i, "promote", write, to, |after, reply| match reply {
                    Reply::Accepted => after.rotators[i].flip(Phase::Publish),
                    _ => {
                        after.rotators[i].named = Version::NONE;
                        after.rotators[i].step = Step::RereadLabels;
                    }
                });
            }
            _ => {
                let write = Write::Move { label: PENDING as u8, from: r.mine, to: Version::NONE };
                self.write(s, i, "promote: remove PENDING", write, to, |after, reply| match reply {
                    Reply::Lost => after.rotators[i].step = Step::RereadLabels,
                    _ => after.rotators[i].end(Step::Idle),
                });
            }
        }
    }

    fn start(&self, s: &State, i: usize, to: &mut Vec<(Action, State)>) {
        if self.who == Who::One && i == 1 {
            return;
        }
        let mut after = *s;
        let r = &mut after.rotators[i];
        let token = s.issuer.mint == Mint::Token;
        if self.who == Who::Scheduled && i == 1 {
            if r.mine == Version::NONE {
                if s.bearers[PENDING] != Version::NONE {
                    return;
                }
                after.bearers[PENDING] = Version::TOKEN;
                r.mine = Version::TOKEN;
                r.after_token = token;
            }
        } else {
            r.after_token = token;
        }
        r.covers = s.unsettled;
        r.flip(Phase::Start);
        if self.is(Variant::NoLabelNoHeal) || self.is(Variant::NoHeal) {
            r.step = Step::ReadLabels;
        }
        step(to, name(i), "start", "", after);
    }

    fn labels_read(&self, s: &State, after: &mut State, i: usize) {
        let r = &mut after.rotators[i];
        let current = s.bearers[CURRENT];
        let seen = |label: usize| Some(s.bearers[label]).filter(|it| !it.is(current)).unwrap_or_default();
        if (self.is(Variant::NoLabelNoHeal) || self.is(Variant::NoHeal)) && r.phase == Phase::Start {
            r.named = current;
            r.step = Step::Store;
            return;
        }
        let there = r.named.is(current);
        r.named = current;
        r.in_force = seen(IN_FORCE);
        r.previous = seen(PREVIOUS);
        if r.scheduled() && r.phase != Phase::Start && !self.is(Variant::KeepsStray) && current.is(r.mine) {
            r.stray = Some(s.bearers[PENDING]).filter(|it| !it.is(r.mine)).unwrap_or_default();
        }
        r.pending = r.scheduled() && r.phase != Phase::Publish && s.bearers[PENDING].is(r.mine);
        if self.is(Variant::SettleFirst) && r.phase == Phase::Publish {
            self.settle(after, i);
        } else if there {
            self.flipped(after, i);
        } else {
            r.step = Step::ReadValue;
        }
    }

    fn flipped(&self, s: &mut State, i: usize) {
        let r = &mut s.rotators[i];
        r.fresh = r.fresh && self.is(Variant::FlipFirst);
        if r.phase == Phase::Finish {
            if r.named.is(r.mine) {
                r.phase = Phase::Publish;
            } else if self.is(Variant::FinishSettles) && r.pending {
                return self.settle(s, i);
            } else if r.pending || self.is(Variant::UnguardedFinish) || self.is(Variant::Unguarded) {
                r.in_force = Version::NONE;
                r.previous = Version::NONE;
                r.pending = false;
                r.step = Step::Promote;
                return;
            } else {
                r.end(Step::Idle);
                return;
            }
        }
        if r.phase == Phase::Publish && !r.named.is(r.mine) {
            r.end(Step::Idle);
            return;
        }
        if self.is(Variant::SettleRereads) {
            r.step = Step::SeeLabels;
            return;
        }
        self.settle(s, i);
    }

    fn settle(&self, s: &mut State, i: usize) {
        let r = &mut s.rotators[i];
        if r.in_force != Version::NONE {
            r.step = Step::MoveInForce;
        } else if r.previous != Version::NONE {
            r.step = Step::DropPrevious;
        } else if r.stray != Version::NONE {
            r.step = Step::DropPending;
        } else if r.phase == Phase::Finish {
            r.pending = false;
            r.step = Step::Promote;
        } else if r.phase == Phase::Publish {
            if self.is(Variant::SettleFirst) && s.pointer != r.mine {
                r.step = Step::ReadValue;
                return;
            }
            s.issuer.dead |= r.after_token;
            if r.covers {
                s.unsettled = false;
            }
            r.end(Step::Done);
        } else if r.scheduled() {
            let guard = !self.is(Variant::UnguardedStore) && !self.is(Variant::Unguarded);
            if guard && !r.pending && !r.named.is(r.mine) {
                r.end(Step::Idle);
            } else {
                let current = r.named.is(r.mine);
                r.pending = false;
                r.named = Version::NONE;
                r.step = if current && guard && !self.is(Variant::StoreIfCurrent) { Step::Test } else { Step::AskStored };
            }
        } else {
            r.step = Step::Store;
        }
    }

    fn breaks(&self, s: &State) -> [Option<&'static str>; 5] {
        let k = s.pointer == Version::TOKEN || !s.bearers.contains(&s.pointer);
        let stable = s.named_token != Version::NONE && s.pointer.is(Version::TOKEN) && s.pointer != s.named_token;
        let cached = self.is(Variant::CachedVerifier) && s.aside != Version::NONE;
        let copy = self.is(Variant::FewerCopies);
        let answer = if cached { s.aside } else { s.pointer };
        let kid = s.issuer.version;
        let token = s.issuer.mint == Mint::Token;
        let s1 = token && s.issuer.dead && (kid == answer || (copy && kid == s.aside));
        let s2 = token && s.issuer.calm && (kid != answer || (copy && kid != s.aside));
        let rest = !s.running() && !s.unsettled;
        let only = s
            .bearers
            .iter()
            .all(|it| *it == s.pointer || *it == Version::NONE || *it == Version::TOKEN);
        [k.then_some("K"), s1.then_some("S1"), s2.then_some("S2"), (rest && !only).then_some("ONE-LIVE"), stable.then_some("STABLE")]
    }

    fn crash(&self, s: &State, i: usize, to: &mut Vec<(Action, State)>) {
        let r = s.rotators[i];
        let mut after = *s;
        if r.down {
            after.rotators[i].down = false;
            after.rotators[i].after_token = s.issuer.mint == Mint::Token;
            step(to, name(i), "resume", "", after);
        } else if r.running() {
            if self.is(Variant::Resume) {
                after.rotators[i].down = true;
            } else {
                after.rotators[i].end(Step::Idle);
            }
            after.crashed();
            step(to, name(i), "crash", "", after);
        }
    }

    fn network(&self, s: &State, to: &mut Vec<(Action, State)>) {
        let Some(write) = s.mail else { return };
        let mut after = *s;
        after.mail = None;
        to.push((Action("network", "drops the write", ""), after));
        if self.apply(&mut after, write) == Reply::Accepted {
            if s.running() || s.unsettled {
                after.issuer.calm = false;
            }
            after.crashed();
            to.push((Action("network", "delivers the write", ""), after));
        }
    }

    fn issue(&self, s: &State, to: &mut Vec<(Action, State)>) {
        let mut read = *s;
        match s.issuer.mint {
            Mint::Idle => {
                read.issuer = Issuer { mint: Mint::Read, calm: !s.running(), version: s.pointer, ..s.issuer };
                to.push((Action("issuer", "read pointer", ""), read));
                if self.is(Variant::CachedIssuer) && s.aside == Version::NONE {
                    let mut after = *s;
                    after.aside = s.pointer;
                    to.push((Action("issuer", "warm", ""), after));
                }
                if s.aside != Version::NONE && (self.is(Variant::CachedIssuer) || self.is(Variant::FewerCopies)) {
                    read.issuer.version = s.aside;
                    read.issuer.mint = if self.is(Variant::CachedIssuer) { Mint::Token } else { Mint::Read };
                    to.push((Action("issuer", "read aside", ""), read));
                }
            }
            Mint::Asked => {
                read.issuer.mint = Mint::Read;
                read.issuer.version = s.pointer;
                to.push((Action("issuer", "read pointer again", ""), read));
            }
            Mint::Read => {
                read.issuer.mint = Mint::Token;
                read.issuer.tries = 0;
                to.push((Action("issuer", "sign", ""), read));
                if s.stored(s.issuer.version) != Some(s.issuer.version) {
                    let tries = s.issuer.tries + 1;
                    let issuer = Issuer { mint: Mint::Asked, tries, version: Version::NONE, ..s.issuer };
                    read.issuer = if tries < 3 { issuer } else { Issuer::default() };
                    read.unavailable = tries == 3;
                    to.push((Action("issuer", "load: gone", ""), read));
                }
            }
            Mint::Token => {}
        }
        if self.is(Variant::CachedVerifier) && s.aside == Version::NONE {
            let mut after = *s;
            after.aside = s.pointer;
            to.push((Action("verifier", "read pointer", ""), after));
        }
    }
}

fn name(i: usize) -> &'static str {
    ["A", "B"][i]
}

fn step(to: &mut Vec<(Action, State)>, who: &'static str, what: &'static str, outcome: &'static str, mut after: State) {
    after.issuer.calm = false;
    to.push((Action(who, what, outcome), after));
}

pub(crate) struct Action(&'static str, &'static str, &'static str);

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} {}{}", self.0, self.1, self.2))
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        let labelled = !self.is(Variant::NoLabelNoHeal) && !self.is(Variant::NoLabel);
        State {
            bearers: [Version(1), Version::NONE, Version::NONE, Version(u8::from(labelled))],
            pointer: Version(1),
            aside: Version(u8::from(self.is(Variant::FewerCopies))),
            named_token: Version::NONE,
            rotators: [Rotator::default(); 2],
            issuer: Issuer::default(),
            mail: None,
            unsettled: false,
            unavailable: false,
        }
    }

    fn actions(&self, from: &State, to: &mut Vec<(Action, State)>) {
        for i in [0, 1] {
            if !from.rotators[i].down {
                self.rotate(from, i, to);
            }
            self.crash(from, i, to);
        }
        self.network(from, to);
        self.issue(from, to);
        for (_, after) in to {
            if after.pointer.0 > 32 && after.named_token == Version::NONE {
                after.named_token = after.pointer;
            }
        }
    }

    fn canonical(&self, mut s: State) -> State {
        s.unavailable = false;
        if s.issuer.mint == Mint::Token {
            let kid = s.issuer.version;
            let mut uses = 0;
            s.each(&mut |version| uses += u8::from(*version == kid));
            if uses == 1 {
                s.issuer = Issuer::default();
            }
        }
        if s.issuer.dead || s.issuer.mint != Mint::Token {
            for r in &mut s.rotators {
                r.after_token = false;
            }
        }
        if !s.unsettled {
            for r in &mut s.rotators {
                r.covers = false;
            }
        }
        if self.who != Who::Two {
            return s.renamed();
        }
        let rank = |r: &Rotator| (r.step, r.phase, r.fresh, r.after_token, r.covers);
        let (one, two) = (rank(&s.rotators[0]), rank(&s.rotators[1]));
        let mut swapped = s;
        swapped.rotators.swap(0, 1);
        match one.cmp(&two) {
            std::cmp::Ordering::Less => s.renamed(),
            std::cmp::Ordering::Greater => swapped.renamed(),
            std::cmp::Ordering::Equal => s.renamed().min(swapped.renamed()),
        }
    }

    fn broken(&self, s: &State) -> Option<&'static str> {
        self.breaks(s).into_iter().flatten().find(|it| self.watch.contains(it))
    }
    fn shows(&self, s: &State) -> u8 {
        let done = |i: usize| u8::from(s.rotators[i].step == Step::Done);
        let idle = |i: usize| u8::from(s.rotators[i].step == Step::Idle);
        u8::from(s.issuer.dead) | (done(0) & done(1)) << 1 | ((done(0) & idle(1)) | (done(1) & idle(0))) << 2
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "-"),
            32 => write!(f, "T"),
            id @ 33.. => write!(f, "T{}", id - 32),
            id => write!(f, "{id}"),
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [current, previous, pending, in_force] = self.bearers;
        write!(f, "ptr={:?} CUR={current:?} PREV={previous:?} PEND={pending:?} INF={in_force:?} ", self.pointer)?;
        for r in &self.rotators {
            write!(f, "[{:?}/{:?} n={:?} m={:?}] ", r.step, r.phase, r.named, r.mine)?;
        }
        let i = self.issuer;
        write!(f, "{:?} {:?} calm={} dead={} uns={} aside={:?}", i.mint, i.version, i.calm, i.dead, self.unsettled, self.aside)
    }
}

const ALL: &[&str] = &["K", "S1", "S2", "ONE-LIVE", "STABLE"];

fn run(variant: Variant, who: Who, late: bool, watch: &'static [&'static str]) -> Found {
    let found = explore(&Protocol { variant, who, late, watch });
    print!("{variant:?} late={late} {watch:?}: {} states, shown {:b} ", found.states, found.shown);
    if let Some((promise, way)) = &found.broken {
        println!("{promise} in {} steps", way.len() - 1);
        if std::env::args().any(|a| a == "--nocapture") && std::env::args().any(|a| a == "--exact") { println!("{}", way.join("\n")); }
    } else { println!("holds"); }
    found
}

#[test]
fn one() {
    run(Variant::Real, Who::One, false, ALL);
}
#[test]
fn one_late() {
    run(Variant::Real, Who::One, true, ALL);
}
#[test]
fn two() {
    run(Variant::Real, Who::Two, false, ALL);
}
#[test]
fn two_late() {
    run(Variant::Real, Who::Two, true, ALL);
}
#[test]
fn scheduled() {
    run(Variant::Real, Who::Scheduled, false, ALL);
}
#[test]
fn scheduled_late() {
    run(Variant::Real, Who::Scheduled, true, ALL);
}
#[test]
fn unguarded() {
    for v in [Variant::Unguarded, Variant::UnguardedStore, Variant::UnguardedFinish, Variant::KeepsStray] {
        for w in ALL { run(v, Who::Scheduled, false, std::slice::from_ref(w)); }
    }
}
#[test]
fn broken() {
    use Variant::*;
    for v in [FlipFirst, Resume, UnconditionalFlip, CachedVerifier, CachedIssuer, SettleFirst, NoLabelNoHeal, EraseOnLostFlip, FewerCopies, SettleRereads, NoLabel, NoHeal] {
        for w in ALL { run(v, Who::Two, false, std::slice::from_ref(w)); }
    }
}
#[test]
fn literal_s1() {
    run(Variant::UnguardedFinish, Who::Scheduled, false, &["S1"]);
}
#[test]
fn literal_k() {
    run(Variant::UnguardedFinish, Who::Scheduled, false, &["K"]);
}
#[test]
fn stable() {
    run(Variant::KeepsStray, Who::Scheduled, false, &["STABLE"]);
}
#[test]
fn nolabel() {
    run(Variant::NoLabel, Who::Two, true, ALL);
}

#[test]
fn combos() {
    for v in [Variant::Real, Variant::IgnoreRefused, Variant::FinishSettles, Variant::KeepsStray, Variant::StoreIfCurrent] {
        run(v, Who::Scheduled, false, ALL);
    }
}
