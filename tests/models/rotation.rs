//! Rotation of the signing keys: every interleaving of two rotators, one issuer and any verification. A rotator may
//! crash anywhere, rotations follow one another without limit, and any answer may be lost.
//!
//! One rotation has these steps ([`rotator`]). Every read and every write in them is an action of its own:
//!
//! 1. `publish`: reads the pointer, then the labels. If the pointer names another version than CURRENT, reads the value
//!    of CURRENT. If that version is newer, writes the pointer, on the condition that the pointer has not changed.
//!    Repeats after any failure. At the start, this step repairs a pointer that lags behind.
//! 2. `clean labels`: moves IN_FORCE to the version that the pointer names and takes PREVIOUS off any other version. It
//!    uses the labels that `publish` has read, not later ones. After any failure `publish` runs again.
//! 3. `store`: stores a new version as PENDING.
//! 4. `test`: reads the new version back.
//! 5. `promote`: moves CURRENT to the new version, from the version that was CURRENT in step 1. If the move fails, the
//!    labels decide whether it is done. If it is not done, the rotator gives way.
//! 6. `publish`: publishes the new version, or a newer one that has replaced it.
//! 7. `clean labels`.
//!
//! A scheduled rotation has a fixed token as its version id. It is tried again, with the same token, any number of times:
//!
//! * createSecret is `publish`, `clean labels` and, if the token is PENDING and has no value, `store`.
//! * testSecret is `test`.
//! * finishSecret is `publish`. If the token is PENDING, `promote` and `publish` follow, unless its value was made from
//!   a version that is not CURRENT any more: such a token is withdrawn. Then `clean labels` follows. Here it also takes
//!   PENDING off any other version, because a token that was already CURRENT has stored no version, so it has not
//!   displaced the version that a crash left.
//! * A token that is neither PENDING nor CURRENT was overtaken.
//!
//! A refused move of a label also repeats `publish` and `clean labels`. No setting of this model needs that for K. Neither
//! did two operators with labels that are reported late, in a search of 17 million states, too many for a test. The
//! repeat is a precaution.
//!
//! A verification is one strongly consistent read. So each state decides every verification that starts in it, and the
//! model needs no verifier. One token of a user is watched at a time. When no part of the state holds its key any more,
//! the key cannot come back, and the next token may be issued.
//!
//! The constants `KEYED`, `REVOKED` and `ACCEPTED` stand for K, S1 and S2 of docs/promises.md#promises.
//!
//! `regeneration.rs` has the model of two secrets.

mod rotator;
mod world;

use std::cmp::Ordering;
use std::fmt;

use crate::search::{Found, Model, explore};
use rotator::{Rotator, Step};
use world::{CURRENT, IN_FORCE, Version, World, Write};

/// The pointer names a version that holds a label, so its key can be read.
const KEYED: &str = "K";
/// A token whose issue returned before a rotation was invoked is refused after that rotation has returned.
const REVOKED: &str = "S1";
/// A token is accepted as long as no rotation has run since its issue was invoked.
const ACCEPTED: &str = "S2";
/// A rotation that reported a conflict has made no version current.
const HONEST: &str = "honest";
/// A version becomes current only if it was made from the version that it replaces. Otherwise its sequence number is not
/// higher, and no pointer can name it.
const UPWARD: &str = "upward";
/// While no rotation runs, and no crashed one waits for the next, exactly one version holds a label.
const ONE_LIVE: &str = "one live";
/// The pointer never names one version id with two values, because loaded keys are cached by version id.
const STABLE: &str = "stable";
const PROMISES: &[&str] = &[KEYED, REVOKED, ACCEPTED, HONEST, UPWARD, ONE_LIVE, STABLE];

/// The protocol, or one way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Real,
    /// The issuer signs with the key in its memory, whichever version the pointer names.
    CachedIssuer,
    /// Verifications use a pointer that was read once.
    CachedVerifier,
    /// A publication without an answer counts as a conflict: undo the promotion, delete the version.
    EraseOnLostPublish,
    /// Two copies of the pointer are read and one is written.
    FewerCopies,
    /// The pointer is published before the version is stored.
    PublishFirst,
    /// The pointer follows the labels, even back to an older version.
    PublishBack,
    /// PENDING stays on the version that a crash left.
    KeepOrphan,
    /// No publication at the start.
    NoRepair,
    /// No publication at the start, and no label for the version in force.
    NoRepairNoLabel,
    /// A rotation succeeds only if the pointer names its own version, not a later one.
    OwnVersionOnly,
    /// finishSecret promotes a token whose value was made from an older version.
    PromoteOvertaken,
    /// finishSecret promotes its token without a check that the token is PENDING, or of the version it was made from.
    PromoteUnasked,
    /// After a crash a rotator continues where it was, for a new call.
    Resume,
    /// Cleaning reads the labels once more, without another read of the pointer.
    CleanBlindly,
    /// Labels are cleaned before the publication.
    CleanFirst,
    /// createSecret stores a value for its token whenever the token has no value.
    StoreUnasked,
    /// The pointer is written without a condition.
    UnconditionalPublish,
}

/// The participants, and the behaviour of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    /// Two operators.
    Two,
    /// Two operators, without crashes.
    TwoCalm,
    /// Two operators. One unanswered write at a time may be under way without limit: a write of the pointer, of a value,
    /// or of CURRENT. To keep the search small, versions without a label are deleted at once.
    TwoLate,
    /// An operator and a scheduled rotation.
    Scheduled,
    /// One operator. The labels may be reported as they were at any earlier time.
    Lagging,
}

/// One search.
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
    /// A write that is under way.
    mail: Option<Write>,
    /// A rotator has crashed, and no rotation that began later has returned success.
    disordered: bool,
    /// A conflict was reported by a rotation whose version had become current.
    lied: bool,
    /// The value of the token was made from a version that is not CURRENT any more.
    token_overtaken: bool,
    /// The labels at an earlier time.
    old: [Version; 4],
    /// The value with which the pointer first named the token.
    first: Version,
    /// The state of a broken variant besides the pointer: a pointer or key in memory, a second copy.
    aside: Version,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Issuer {
    mint: Mint,
    /// The version read from the pointer, later the token's key.
    version: Version,
    /// How often that version was not found.
    gone: u8,
    /// No rotator has acted since the issue was invoked.
    calm: bool,
    /// A rotation that was invoked after the issue returned has returned success.
    revoked: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Mint {
    #[default]
    Idle,
    /// Will read the pointer once more.
    Again,
    /// Has read the pointer. Will load the version that it named, and sign.
    Load,
    /// The token is issued.
    Issued,
    /// Ended with 503, because its version was replaced between the read and the load three times.
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
        if accepted
            && let Write::StagingLabel { label, to, .. } = write
            && usize::from(label) == CURRENT
        {
            self.made_current(to);
        }
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

    fn made_current(&mut self, version: Version) {
        for r in &mut self.rotators {
            r.promoted |= r.running() && r.mine.is(version);
            r.base_moved = r.scheduled() && r.running() && r.publish == rotator::Publish::First;
        }
        self.token_overtaken |= !version.is_token();
    }

    /// Rotator `i` gives way. It reports a conflict, unless the answer to its promotion was lost: then it reports that
    /// its effect is unclear.
    fn conflict(&mut self, i: usize) {
        let r = &mut self.rotators[i];
        self.lied |= r.promoted && !r.unanswered;
        r.end(Step::Idle);
    }

    /// The next rotation has something to clean up.
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

    /// The set of the versions that the state holds, as bits.
    fn remembered(mut self) -> u64 {
        let mut set = 0;
        self.versions(&mut |version| set |= 1 << version.0);
        set
    }

    /// A version that the state does not hold, from `first` on. It is newer than all others if their order counts.
    fn unused(self, first: u8) -> Version {
        let set = self.remembered() >> first;
        Version(first + u8::try_from(set.trailing_ones()).expect("at most 64"))
    }

    /// Names the versions in the order in which they occur, or in the order of their age.
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

    /// Each value has a sequence number, one more than the value that it replaces, and a publication only goes up. With
    /// labels that are reported in time, no publication would go back.
    fn goes_back(&self, to: Version, pointer: Version) -> bool {
        self.is_lagging() && !self.is(Variant::PublishBack) && to < pointer
    }

    /// Whether a requested version may still be there. Both answers are possible if it holds no label.
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

    /// The write that is under way arrives, or it never does. If it arrives after its rotation has returned, it is no
    /// part of the rotation: it may leave disorder like a crash, but it must not revoke a token.
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

    /// The issuer reads the pointer, loads the named version unless the version is in memory, and signs.
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
                // The version may be in memory, so a deleted one can sign too.
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

    /// The state after the set-up of a resource.
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
            lied: false,
            token_overtaken: false,
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
        let World { labels, left, .. } = &s.world;
        s.token_overtaken &= labels.iter().chain([left]).any(|it| *it > Version::TOKEN);
        for r in &mut s.rotators {
            r.after_token &= s.issuer.has_token() && !s.issuer.revoked;
            r.covers &= s.disordered;
        }
        if self.setting == Setting::Scheduled || self.is_lagging() {
            return s.renamed(self.is_lagging());
        }
        // The two operators are interchangeable.
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
            (REVOKED, s.issuer.has_token() && s.issuer.revoked && may_accept),
            (ACCEPTED, s.issuer.has_token() && s.issuer.calm && may_refuse),
            (HONEST, s.lied),
            (UPWARD, s.token_overtaken && s.world.labels[CURRENT].is_token()),
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

/// Searches the whole of a setting. `least` guards against a model that reaches too few states.
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

/// The labels may stay in disorder, but keys and tokens keep their promises.
#[test]
fn labels_reported_late_harm_neither_keys_nor_tokens() {
    holds(Variant::Real, Setting::Lagging, &[KEYED, REVOKED, ACCEPTED, HONEST], 20_000);
}

/// Each wrong variant breaks the promise named with it.
#[test]
fn each_wrong_variant_is_caught() {
    use Setting::{Lagging, Scheduled, Two};
    let wrong: &[(Variant, Setting, &[&str])] = &[
        (Variant::CachedIssuer, Two, &[ACCEPTED]),
        (Variant::CachedVerifier, Two, &[REVOKED]),
        (Variant::EraseOnLostPublish, Two, &[KEYED]),
        (Variant::FewerCopies, Two, &[REVOKED]),
        (Variant::PublishBack, Lagging, &[REVOKED]),
        (Variant::PublishFirst, Two, &[KEYED]),
        (Variant::KeepOrphan, Scheduled, &[ONE_LIVE]),
        (Variant::NoRepair, Two, &[KEYED]),
        (Variant::NoRepairNoLabel, Two, &[KEYED]),
        (Variant::OwnVersionOnly, Two, &[HONEST]),
        (Variant::PromoteOvertaken, Scheduled, &[UPWARD]),
        (Variant::PromoteUnasked, Scheduled, &[REVOKED]),
        (Variant::Resume, Two, &[REVOKED]),
        (Variant::CleanBlindly, Two, &[KEYED]),
        (Variant::CleanFirst, Two, &[KEYED]),
        (Variant::StoreUnasked, Scheduled, &[STABLE]),
        (Variant::UnconditionalPublish, Two, &[REVOKED]),
    ];
    for (variant, setting, promise) in wrong {
        let found = run(*variant, *setting, promise);
        assert!(found.broken.is_some(), "{variant:?} does not break {promise:?}");
    }
}
