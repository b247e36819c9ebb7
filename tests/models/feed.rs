//! The revocation feed: every interleaving of two appends, which their sources may repeat, and a reader whose query passes
//! the places one after the other. Any answer may be lost, any write may arrive late or twice, and any batch may expire.
//! Decision record 0020 has the protocol.

use std::fmt;

use crate::search::{Found, Model, explore};

/// Every end at or before the reader's cursor has reached the reader.
const NO_SKIP: &str = "no skip";
/// An empty page proves that the reader has every end that was stored before its query began.
const COMPLETE: &str = "complete";
/// A cursor becomes unknown only if a batch has expired.
const NO_FALSE_ALARM: &str = "no false alarm";

const APPENDS: usize = 2;
/// The end that each append stores.
const ENDS: [u8; APPENDS] = [0b01, 0b10];
const ALL_ENDS: u8 = 0b11;
/// The places of batches, and place 0 before them. Two ends and a repetition fill them.
const PLACES: usize = 4;

/// The protocol, or one way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Real,
    /// A batch is written without a condition on the head.
    Unconditional,
    /// The head moves first, and the batch follows in a second write.
    CountThenPut,
    /// The reader accepts batches after a gap.
    AcceptGaps,
    /// The reader takes a query without a batch for the end of the feed, wherever the head is.
    IgnoreHead,
    /// The reader does not repeat a query.
    QueryOnce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Running,
    Succeeded,
    Unclear,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Append {
    phase: Phase,
    /// The head that it read.
    from: u8,
    /// Whether its write is on its way.
    sent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Reader {
    cursor: u8,
    /// The ends that it has received.
    known: u8,
    /// 0 without a query, then the number of the query.
    attempt: u8,
    /// The place that the query reads next.
    next: u8,
    /// The places with a batch, as the query met them.
    seen: u8,
    /// The ends that were stored when the query began.
    due: u8,
    is_told_unknown: bool,
    has_wrong_page: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    head: u8,
    /// The ends of the batch at each place. 0 without a batch.
    batches: [u8; PLACES],
    /// The ends that were ever stored at each place.
    ever: [u8; PLACES],
    appends: [Append; APPENDS],
    reader: Reader,
    has_expired: bool,
}

struct Protocol(Variant);

enum Action {
    Begin(usize),
    Send(usize),
    Arrive(usize),
    Answer(usize),
    GiveUp(usize),
    Query,
    Pass,
    Decide,
    Expire(usize),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            Self::Begin(at) => format!("append {at} reads the head"),
            Self::Send(at) => format!("append {at} sends its write"),
            Self::Arrive(at) => format!("the write of append {at} arrives"),
            Self::Answer(at) => format!("append {at} is answered"),
            Self::GiveUp(at) => format!("append {at} gives up"),
            Self::Query => "the reader begins a query".to_owned(),
            Self::Pass => "the query passes a place".to_owned(),
            Self::Decide => "the query reads the head, and ends".to_owned(),
            Self::Expire(place) => format!("the batch at place {place} expires"),
        })
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reader { cursor, known, is_told_unknown, .. } = self.reader;
        let batches = &self.batches;
        write!(f, "head {}, {batches:?}, reader {cursor} {known:02b} {is_told_unknown}", self.head)
    }
}

impl State {
    /// The write of an append arrives. Returns whether it has an effect.
    fn write(&mut self, at: usize, variant: Variant) -> bool {
        let Append { from, .. } = self.appends[at];
        let is_conditional = !matches!(variant, Variant::Unconditional | Variant::CountThenPut);
        if is_conditional && self.head != from {
            return false;
        }
        self.head = self.head.max(from + 1);
        self.batches[usize::from(from) + 1] = ENDS[at];
        self.ever[usize::from(from) + 1] |= ENDS[at];
        true
    }

    fn begin(&mut self, at: usize, variant: Variant) {
        self.appends[at] = Append { phase: Phase::Running, from: self.head, sent: false };
        if variant == Variant::CountThenPut {
            self.head += 1;
        }
    }

    fn query(&mut self) {
        let due = self.ever.iter().fold(0, |due, ends| due | ends);
        let Reader { cursor, .. } = self.reader;
        self.reader = Reader { attempt: 1, next: cursor + 1, seen: 0, due, ..self.reader };
    }

    fn pass(&mut self) {
        let place = self.reader.next;
        if self.batches[usize::from(place)] != 0 {
            self.reader.seen |= 1 << place;
        }
        self.reader.next += 1;
    }

    /// The page of the query, by the rules of `Reading::page`.
    fn decide(&mut self, variant: Variant) {
        let Reader { cursor: after, attempt, seen, due, .. } = self.reader;
        for place in after + 1..u8::try_from(PLACES).expect("few places") {
            if seen >> place & 1 == 1 {
                // The query has read the batch before it expired.
                self.reader.known |= self.ever[usize::from(place)];
                self.reader.cursor = place;
            } else if variant != Variant::AcceptGaps {
                break;
            }
        }
        let is_at_head = seen == 0 && (self.head == after || variant == Variant::IgnoreHead);
        let is_torn = self.reader.cursor == after && !is_at_head;
        if is_torn && attempt == 1 && variant != Variant::QueryOnce {
            self.reader = Reader { attempt: 2, next: after + 1, seen: 0, ..self.reader };
            return;
        }
        self.reader.is_told_unknown = is_torn;
        self.reader.has_wrong_page = is_at_head && due & !self.reader.known != 0;
        self.reader = Reader { attempt: 0, next: 0, seen: 0, due: 0, ..self.reader };
    }
}

impl Protocol {
    fn append_actions(&self, state: &State, found: &mut Vec<(Action, State)>) {
        let Self(variant) = *self;
        for at in 0..APPENDS {
            let Append { phase, sent, .. } = state.appends[at];
            let mut add = |action, change: &dyn Fn(&mut State)| {
                let mut next = *state;
                change(&mut next);
                found.push((action, next));
            };
            // An append that met another one, or its own write, begins again, and so does one that gave up. Its earlier write
            // is forgotten: it has the condition of the new write, or no effect any more.
            let has_place = usize::from(state.head) + 1 < PLACES;
            if has_place && matches!(phase, Phase::Idle | Phase::Unclear) {
                add(Action::Begin(at), &|next| next.begin(at, variant));
            }
            if phase == Phase::Running {
                add(Action::GiveUp(at), &|next| next.appends[at].phase = Phase::Unclear);
                add(Action::Answer(at), &|next| {
                    if next.write(at, variant) {
                        next.appends[at].phase = Phase::Succeeded;
                    } else {
                        next.appends[at].phase = Phase::Idle;
                    }
                });
                if !sent {
                    add(Action::Send(at), &|next| next.appends[at].sent = true);
                }
            }
            if sent {
                for stays in [false, true] {
                    add(Action::Arrive(at), &|next| {
                        next.write(at, variant);
                        next.appends[at].sent = stays;
                    });
                }
            }
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        let append = Append { phase: Phase::Idle, from: 0, sent: false };
        let reader = Reader {
            cursor: 0,
            known: 0,
            attempt: 0,
            next: 0,
            seen: 0,
            due: 0,
            is_told_unknown: false,
            has_wrong_page: false,
        };
        State {
            head: 0,
            batches: [0; PLACES],
            ever: [0; PLACES],
            appends: [append; APPENDS],
            reader,
            has_expired: false,
        }
    }

    fn actions(&self, state: &State, found: &mut Vec<(Action, State)>) {
        self.append_actions(state, found);
        let Reader { attempt, next, is_told_unknown, .. } = state.reader;
        let mut add = |action, change: &dyn Fn(&mut State)| {
            let mut after = *state;
            change(&mut after);
            found.push((action, after));
        };
        match attempt {
            // A reader with an unknown cursor starts at the head, and asks about earlier tokens.
            0 if is_told_unknown => {}
            0 => add(Action::Query, &State::query),
            _ if usize::from(next) < PLACES => add(Action::Pass, &State::pass),
            _ => add(Action::Decide, &|next| next.decide(self.0)),
        }
        for place in (1..PLACES).filter(|place| state.batches[*place] != 0) {
            add(Action::Expire(place), &|next| {
                next.batches[place] = 0;
                next.has_expired = true;
            });
        }
    }

    /// No state differs from another one in names only.
    fn canonical(&self, state: State) -> State {
        state
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let Reader { cursor, known, is_told_unknown, has_wrong_page, .. } = state.reader;
        let passed = state.ever.iter().take(usize::from(cursor) + 1).fold(0, |passed, ends| passed | ends);
        if passed & !known != 0 {
            Some(NO_SKIP)
        } else if has_wrong_page {
            Some(COMPLETE)
        } else if is_told_unknown && !state.has_expired {
            Some(NO_FALSE_ALARM)
        } else {
            None
        }
    }

    /// Shows that a reader gets all ends, that a query is torn without an expiry, and that an expiry is noticed.
    fn reports(&self, state: &State) -> u8 {
        let Reader { known, attempt, is_told_unknown, .. } = state.reader;
        let is_torn = attempt == 2 && !state.has_expired;
        u8::from(known == ALL_ENDS) | u8::from(is_torn) << 1 | u8::from(is_told_unknown) << 2
    }
}

#[test]
fn reader_skips_no_end_and_notices_every_loss() {
    let Found { states, reported, broken } = explore(&Protocol(Variant::Real));
    assert_eq!(broken, None, "{states} states");
    assert_eq!(reported, 0b111, "{states} states");
    assert!(states > 1_000, "{states} states");
    println!("{states} states");
}

#[test]
fn every_wrong_variant_of_the_feed_breaks_its_promise() {
    for (variant, expected) in [
        (Variant::Unconditional, NO_SKIP),
        (Variant::CountThenPut, NO_FALSE_ALARM),
        (Variant::AcceptGaps, NO_SKIP),
        (Variant::IgnoreHead, COMPLETE),
        (Variant::QueryOnce, NO_FALSE_ALARM),
    ] {
        let found = explore(&Protocol(variant));
        let Some((promise, way)) = found.broken else { panic!("{variant:?} breaks nothing") };
        assert_eq!(promise, expected, "{variant:?}:\n{}", way.join("\n"));
        println!("{variant:?} in {} steps:\n{}\n", way.len(), way.join("\n"));
    }
}
