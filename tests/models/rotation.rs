//! Rotating the signing keys: every interleaving of rotators, one issuer and any verification, with a
//! crash allowed anywhere, any number of rotations one after another, and any answer lost.
//!
//! One rotation is these steps ([`rotator`]); every read and every write in them is an action of its own:
//!
//! 1. `flip`: read the pointer, then the labels; if the pointer names another version than CURRENT, read
//!    CURRENT's value and, if it is a newer one, write the pointer on the condition that it is still the one
//!    read. Again on any failure. At the start this heals a pointer that lags.
//! 2. `settle`: by the labels that the flip read, not by a later reading, move IN_FORCE to the version the
//!    pointer names, and take PREVIOUS off any other. On any failure `flip` again.
//! 3. `store` a new version as PENDING.
//! 4. `test`: read it back.
//! 5. `promote`: move CURRENT to it, from the version that was CURRENT in 1. If that fails, the labels
//!    tell whether it is done; if not, give way.
//! 6. `flip` to the new version, or give way to a newer one.
//! 7. `settle`.
//!
//! A scheduled rotation has a fixed token for its version and is tried again, with the same token, any
//! number of times. createSecret is `flip`, `settle` and, if the token is PENDING, `store` unless it has a
//! value. testSecret is `test`. finishSecret is `flip`, then `promote` and `flip` if the token is PENDING
//! or nothing more if it is CURRENT, then `settle`, which here takes PENDING off any other version too: a
//! token that was CURRENT already has stored nothing and so has not displaced what a crash left behind. A
//! token that is neither PENDING nor CURRENT has had its day.
//!
//! A verification is one strongly consistent read. So each state answers for every verification that
//! starts there, and none needs to be modelled. One token is watched at a time; when nobody remembers its
//! key any more it cannot come back, and the next one may be issued.
//!
//! The constants `KEYED`, `DEAD` and `ALIVE` stand for K, S1 and S2 of docs/promises.md#promises.

mod rotator;
mod world;

use std::cmp::Ordering;
use std::fmt;

use crate::search::{Found, Model, explore};
use rotator::{Rotator, Step};
use world::{IN_FORCE, Version, World, Write};

/// The pointer names a version that bears a label, so its key can be read.
const KEYED: &str = "K";
/// A token whose issue returned before a rotation was invoked is refused once that has returned.
const DEAD: &str = "S1";
/// A token is accepted as long as no rotation has run since its issue was invoked.
const ALIVE: &str = "S2";
/// While no rotation runs, and none that crashed awaits the next one, exactly one version is labelled.
const ONE_LIVE: &str = "one live";
/// The pointer never names one version id with two values: loaded keys are kept by version id.
const STABLE: &str = "stable";
const PROMISES: &[&str] = &[KEYED, DEAD, ALIVE, ONE_LIVE, STABLE];

/// The protocol, or one way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Real,
    /// The issuer signs with the key in its memory, whatever the pointer names.
    CachedIssuer,
    /// Verifications use a pointer read once.
    CachedVerifier,
    /// A flip that was not answered counts as a conflict: undo the promotion, delete the version.
    EraseOnLostPublish,
    /// Two copies of the pointer are read and one is written.
    FewerCopies,
    /// The pointer is flipped before the version is stored.
    PublishFirst,
    /// The flip goes wherever the labels say, be it back.
    PublishBack,
    /// staging labels that are not where they were seen are left alone.
    IgnoreRefusal,
    /// PENDING stays on what a crash left behind.
    KeepOrphan,
    /// No flip at the start.
    NoRepair,
    /// That, and no label for the version in force.
    NoRepairNoLabel,
    /// finishSecret promotes its token without asking whether it is PENDING.
    PromoteUnasked,
    /// After a crash a rotator goes on where it was, for a new call.
    Resume,
    /// The settling looks at the labels once more, without refreshing at the pointer.
    CleanBlindly,
    /// staging labels are put right before the flip.
    CleanFirst,
    /// createSecret stores a value for its token whenever there is none.
    StoreUnasked,
    /// The pointer is written without a condition.
    UnconditionalPublish,
}

/// Who takes part, and what the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    /// Two operators.
    Two,
    /// As before, and nobody crashes.
    TwoCalm,
    /// As [`Setting::Two`]; and one write at a time, unanswered, may be on its way for as long as it
    /// likes: of the pointer, of a value, or of CURRENT. To keep this small, versions without a label
    /// are deleted at once.
    TwoLate,
    /// An operator and a scheduled rotation.
    Scheduled,
    /// One operator, to whom the labels may be reported as they were at any earlier time.
    Lagging,
}

/// What is searched.
struct Protocol {
    variant: Variant,
    setting: Setting,
    /// The promises that end the search.
    watched: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct State {
    world: World,
    rotators: [Rotator; 2],
    issuer: Issuer,
    /// A write on its way.
    mail: Option<Write>,
    /// Something crashed, and no rotation begun since has returned success.
    disordered: bool,
    /// staging labels as they were.
    old: [Version; 4],
    /// The value with which the pointer first named the token.
    first: Version,
    /// What a broken variant goes by besides the pointer: a pointer or key in memory, a second copy.
    aside: Version,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Issuer {
    mint: Mint,
    /// The version read from the pointer, later the token's key.
    version: Version,
    /// How often that version was gone.
    gone: u8,
    /// No rotator has done anything since the issue was invoked.
    calm: bool,
    /// A rotation invoked after the issue returned has returned success.
    dead: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Mint {
    #[default]
    Idle,
    /// Will read the pointer once more.
    Again,
    /// Has read the pointer, will load the version it named and sign.
    Load,
    /// The token is out.
    Issued,
    /// Ended with 503: three times its version was replaced between the read and the load.
    Refused,
}

/// An action, for the trace.
struct Action {
    who: &'static str,
    what: &'static str,
    how: &'static str,
}

impl Action {
    fn of(rotator: usize, what: &'static str) -> Self {
        Self { who: ["A", "B"][rotator], what, how: "" }
    }

    fn by(who: &'static str, what: &'static str) -> Self {
        Self { who, what, how: "" }
    }
}

impl Issuer {
    fn has_token(&self) -> bool {
        self.mint == Mint::Issued
    }
}

impl State {
    fn running(&self) -> bool {
        self.rotators.iter().any(Rotator::running)
    }

    /// After an action of a rotator.
    fn stepped(mut self) -> Self {
        self.issuer.calm = false;
        self
    }

    fn write(&mut self, write: Write, kept: bool) -> bool {
        let accepted = self.world.write(write, kept);
        if accepted && let Write::Pointer { .. } = write {
            for r in &mut self.rotators {
                r.fresh = false;
            }
            if let Some(Write::Pointer { fresh, .. }) = &mut self.mail {
                *fresh = false;
            }
            if self.world.pointer.is_token() && self.first == Version::NONE {
                self.first = self.world.pointer;
            }
        }
        accepted
    }

    /// Something is left for the next rotation to put in order.
    fn disorder(&mut self) {
        self.disordered = true;
        for r in &mut self.rotators {
            r.covers = false;
        }
    }

    /// Every place that holds a version.
    fn versions(&mut self, visit: &mut impl FnMut(&mut Version)) {
        let World { labels, left, pointer } = &mut self.world;
        labels.iter_mut().chain([left, pointer]).for_each(&mut *visit);
        for r in &mut self.rotators {
            for version in [&mut r.named, &mut r.in_force, &mut r.previous, &mut r.orphan, &mut r.mine] {
                visit(version);
            }
        }
        match &mut self.mail {
            Some(Write::StagingLabel { from, to, .. }) => [from, to].into_iter().for_each(&mut *visit),
            Some(Write::Pointer { to, .. } | Write::Value(to)) => visit(to),
            None => {}
        }
        self.old.iter_mut().for_each(&mut *visit);
        for version in [&mut self.first, &mut self.aside, &mut self.issuer.version] {
            visit(version);
        }
    }

    /// A set of the versions that anybody remembers.
    fn remembered(mut self) -> u64 {
        let mut set = 0;
        self.versions(&mut |version| set |= 1 << version.0);
        set
    }

    /// A version nobody remembers, from `first` on; newer than all others if their order counts.
    fn unused(self, first: u8) -> Version {
        let set = self.remembered() >> first;
        Version(first + u8::try_from(set.trailing_ones()).expect("at most 64"))
    }

    /// Names the versions in the order in which they are met, or of their age.
    fn renamed(mut self, by_age: bool) -> Self {
        let mut names = [0_u8; 64];
        let mut next = [1, 33];
        if by_age {
            let set = self.remembered();
            for id in (1..32_u8).filter(|id| set & (1 << id) != 0) {
                names[usize::from(id)] = next[0];
                next[0] += 1;
            }
        }
        self.versions(&mut |version| {
            if *version == Version::NONE || *version == Version::TOKEN {
                return;
            }
            let name = &mut names[usize::from(version.0)];
            if *name == 0 {
                let next = &mut next[usize::from(version.is_token())];
                *name = *next;
                *next += 1;
            }
            version.0 = *name;
        });
        self
    }
}

impl Protocol {
    fn is(&self, variant: Variant) -> bool {
        self.variant == variant
    }

    fn is_late(&self) -> bool {
        self.setting == Setting::TwoLate
    }

    fn is_lagging(&self) -> bool {
        self.setting == Setting::Lagging
    }

    fn is_scheduled(&self, rotator: usize) -> bool {
        self.setting == Setting::Scheduled && rotator == 1
    }

    /// Each value carries a number, one more than the value it was made to replace; the flip goes up only.
    /// staging labels that are always up to date never ask for anything else.
    fn goes_back(&self, to: Version, pointer: Version) -> bool {
        self.is_lagging() && !self.is(Variant::PublishBack) && to < pointer
    }

    /// Whether a version asked for may be there yet: only in question when it bears no label.
    fn fates(&self, world: &World, asked: Version) -> &'static [bool] {
        let certain = asked == Version::NONE || self.is_late() || world.labelled(asked).is_some();
        if certain { &[false] } else { &[false, true] }
    }

    fn crash(&self, s: &State, i: usize, found: &mut Vec<(Action, State)>) {
        let mut after = *s;
        let r = &mut after.rotators[i];
        if r.down {
            r.down = false;
            r.after_token = s.issuer.has_token();
            found.push((Action::of(i, "resume"), after.stepped()));
        } else if r.running() && self.setting != Setting::TwoCalm {
            if self.is(Variant::Resume) {
                r.down = true;
            } else {
                r.end(Step::Idle);
            }
            after.disorder();
            found.push((Action::of(i, "crash"), after.stepped()));
        }
    }

    /// The write on its way arrives, or never does. One that arrives after a rotation has returned is not
    /// part of it any more: it may leave disorder like a crash, but must not end a token.
    fn deliver(&self, s: &State, found: &mut Vec<(Action, State)>) {
        let Some(write) = s.mail else { return };
        let mut after = State { mail: None, ..*s };
        found.push((Action::by("network", "drop the write"), after));
        if after.write(write, false) {
            after.issuer.calm &= !s.running() && !s.disordered;
            after.disorder();
            found.push((Action::by("network", "deliver the write"), after));
        }
    }

    /// The issuer reads the pointer, loads the version named unless it has it in memory, and signs.
    fn issue(&self, s: &State, found: &mut Vec<(Action, State)>) {
        let mut after = *s;
        let issuer = &mut after.issuer;
        match issuer.mint {
            Mint::Idle | Mint::Refused | Mint::Again => {
                if issuer.mint != Mint::Again {
                    *issuer = Issuer { calm: !s.running(), ..Issuer::default() };
                }
                issuer.mint = Mint::Load;
                issuer.version = s.world.pointer;
                found.push((Action::by("issuer", "read pointer"), after));
                if s.aside != Version::NONE && !self.is(Variant::CachedVerifier) {
                    after.issuer.version = s.aside;
                    found.push((Action::by("issuer", "read what it has aside"), after));
                }
            }
            Mint::Load => {
                // From memory if need be.
                issuer.mint = Mint::Issued;
                issuer.gone = 0;
                found.push((Action::by("issuer", "sign"), after));
                if s.world.labelled(s.issuer.version) != Some(s.issuer.version) {
                    let gone = s.issuer.gone + 1;
                    let mint = if gone < 3 { Mint::Again } else { Mint::Refused };
                    after.issuer = Issuer { mint, gone, calm: s.issuer.calm, ..Issuer::default() };
                    found.push((Action::by("issuer", "load: gone"), after));
                }
            }
            Mint::Issued => {}
        }
        let keeps = self.is(Variant::CachedIssuer) || self.is(Variant::CachedVerifier);
        if keeps && s.aside == Version::NONE {
            let after = State { aside: s.world.pointer, ..*s };
            found.push((Action::by("a function", "keep what it reads"), after));
        }
    }

    /// Whether a verification that starts now may accept, and whether it may refuse, the token.
    fn verdicts(&self, s: &State) -> (bool, bool) {
        let kid = s.issuer.version;
        let pointer = kid == s.world.pointer;
        match self.variant {
            Variant::CachedVerifier if s.aside != Version::NONE => (kid == s.aside, kid != s.aside),
            Variant::FewerCopies => (pointer || kid == s.aside, !pointer || kid != s.aside),
            _ => (pointer, !pointer),
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    /// As setting a resource up leaves it.
    fn initial(&self) -> State {
        let first = Version(1);
        let mut labels = [first, Version::NONE, Version::NONE, first];
        if self.is(Variant::NoRepairNoLabel) {
            labels[IN_FORCE] = Version::NONE;
        }
        State {
            world: World { labels, left: Version::NONE, pointer: first },
            rotators: [Rotator::default(); 2],
            issuer: Issuer::default(),
            mail: None,
            disordered: false,
            old: if self.is_lagging() { labels } else { [Version::NONE; 4] },
            first: Version::NONE,
            aside: if self.is(Variant::FewerCopies) { first } else { Version::NONE },
        }
    }

    fn actions(&self, s: &State, found: &mut Vec<(Action, State)>) {
        let rotators = if self.is_lagging() { 1 } else { 2 };
        for i in 0..rotators {
            if !s.rotators[i].down {
                self.rotate(s, i, found);
            }
            self.crash(s, i, found);
        }
        self.issue(s, found);
        self.deliver(s, found);
        if self.is_lagging() && s.old != s.world.labels {
            let after = State { old: s.world.labels, ..*s };
            found.push((Action::by("labels", "catch up"), after));
        }
    }

    fn canonical(&self, mut s: State) -> State {
        if s.issuer.has_token() {
            let mut holders = 0;
            let kid = s.issuer.version;
            s.versions(&mut |version| holders += u8::from(*version == kid));
            if holders == 1 {
                s.issuer = Issuer::default();
            }
        }
        for r in &mut s.rotators {
            r.after_token &= s.issuer.has_token() && !s.issuer.dead;
            r.covers &= s.disordered;
        }
        if self.setting == Setting::Scheduled || self.is_lagging() {
            return s.renamed(self.is_lagging());
        }
        // Two operators are alike.
        let rank = |r: &Rotator| (r.step, r.publish, r.fresh, r.after_token, r.covers);
        let order = rank(&s.rotators[0]).cmp(&rank(&s.rotators[1]));
        let [one, two] = s.rotators;
        let swapped = State { rotators: [two, one], ..s };
        match order {
            Ordering::Less => s.renamed(false),
            Ordering::Greater => swapped.renamed(false),
            Ordering::Equal => s.renamed(false).min(swapped.renamed(false)),
        }
    }

    fn broken(&self, s: &State) -> Option<&'static str> {
        let pointer = s.world.pointer;
        let (may_accept, may_refuse) = self.verdicts(s);
        let mut labelled =
            s.world.labels.into_iter().filter(|it| *it != Version::NONE && *it != Version::TOKEN);
        let broken = [
            (KEYED, s.world.labelled(pointer) != Some(pointer)),
            (DEAD, s.issuer.has_token() && s.issuer.dead && may_accept),
            (ALIVE, s.issuer.has_token() && s.issuer.calm && may_refuse),
            (ONE_LIVE, !s.running() && !s.disordered && labelled.any(|it| it != pointer)),
            (STABLE, pointer.is_token() && pointer != s.first),
        ];
        let mut broken =
            broken.into_iter().filter(|(promise, broken)| *broken && self.watched.contains(promise));
        broken.next().map(|(promise, _)| promise)
    }

    fn reports(&self, s: &State) -> u8 {
        let [a, b] = s.rotators.map(|r| r.step == Step::Done);
        u8::from(a && b) | (u8::from(s.issuer.mint == Mint::Refused) << 1)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} {}{}", self.who, self.what, self.how))
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.world)?;
        if self.issuer.has_token() {
            write!(f, ", token by {:?}", self.issuer.version)?;
        }
        if self.aside != Version::NONE {
            write!(f, ", aside {:?}", self.aside)?;
        }
        Ok(())
    }
}

fn run(variant: Variant, setting: Setting, watched: &'static [&'static str]) -> Found {
    let found = explore(&Protocol { variant, setting, watched });
    let broken = found.broken.as_ref().map(|(promise, way)| (promise, way.len()));
    println!("{variant:?}, {setting:?}: {} states, broken: {broken:?}", found.states);
    found
}

/// Searches the whole of a setting; `least` guards against a model that has run dry.
fn holds(variant: Variant, setting: Setting, watched: &'static [&'static str], least: usize) -> Found {
    let found = run(variant, setting, watched);
    if let Some((promise, way)) = &found.broken {
        panic!("{promise} is broken after {} actions:\n{}", way.len(), way.join("\n"));
    }
    assert!(found.states >= least, "only {} states", found.states);
    found
}

#[test]
fn two_operators_keep_every_promise() {
    let found = holds(Variant::Real, Setting::Two, PROMISES, 100_000);
    assert_eq!(found.reported, 0b11, "two successes, and a mint refused when keys changed three times");
}

#[test]
fn two_operators_can_both_succeed_without_a_crash() {
    let found = holds(Variant::Real, Setting::TwoCalm, PROMISES, 25_000);
    assert_eq!(found.reported & 1, 1);
}

#[test]
fn a_scheduled_rotation_beside_an_operator_keeps_every_promise() {
    let found = holds(Variant::Real, Setting::Scheduled, PROMISES, 400_000);
    assert_eq!(found.reported & 1, 1);
}

#[test]
fn writes_that_arrive_late_break_no_promise() {
    holds(Variant::Real, Setting::TwoLate, PROMISES, 1_000_000);
}

/// staging labels may then be left in disorder, but keys and tokens are what matters.
#[test]
fn labels_reported_late_harm_neither_keys_nor_tokens() {
    holds(Variant::Real, Setting::Lagging, &[KEYED, DEAD, ALIVE], 20_000);
}

/// The model bites: each way to get it wrong breaks the promise named.
#[test]
fn each_wrong_variant_is_caught() {
    use Setting::{Lagging, Scheduled, Two};
    let wrong: &[(Variant, Setting, &[&str])] = &[
        (Variant::CachedIssuer, Two, &[ALIVE]),
        (Variant::CachedVerifier, Two, &[DEAD]),
        (Variant::EraseOnLostPublish, Two, &[KEYED]),
        (Variant::FewerCopies, Two, &[DEAD]),
        (Variant::PublishBack, Lagging, &[DEAD]),
        (Variant::PublishFirst, Two, &[KEYED]),
        (Variant::IgnoreRefusal, Scheduled, &[ONE_LIVE]),
        (Variant::KeepOrphan, Scheduled, &[ONE_LIVE]),
        (Variant::NoRepair, Two, &[KEYED]),
        (Variant::NoRepairNoLabel, Two, &[KEYED]),
        (Variant::PromoteUnasked, Scheduled, &[DEAD]),
        (Variant::Resume, Two, &[DEAD]),
        (Variant::CleanBlindly, Two, &[KEYED]),
        (Variant::CleanFirst, Two, &[KEYED]),
        (Variant::StoreUnasked, Scheduled, &[STABLE]),
        (Variant::UnconditionalPublish, Two, &[DEAD]),
    ];
    for (variant, setting, promise) in wrong {
        let found = run(*variant, *setting, promise);
        assert!(found.broken.is_some(), "{variant:?} does not break {promise:?}");
    }
}
