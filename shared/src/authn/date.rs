//! The dates of signatures: date-times of RFC 5322 section 3.3 that name an instant in UTC.
//!
//! IMF-fixdate (RFC 9110 section 5.6.7) is the usual form. Formatters of several languages write others, such as a day
//! with one digit. The signature covers the text as sent, so several forms do not weaken it.

use std::borrow::Cow;

use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc2822;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

/// The form that messages show.
pub const EXAMPLE: &str = "Fri, 01 Mar 2024 12:00:00 GMT";

const IMF_FIXDATE: &[BorrowedFormatItem<'_>] = format_description!(
    version = 2,
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// The zones of UTC. A military letter other than `Z` has no certain meaning (RFC 5322 section 4.3).
const UTC: [&str; 6] = ["GMT", "UTC", "UT", "Z", "+0000", "-0000"];

/// The instant of a date. `None` for another format, another zone, a wrong weekday, an impossible day or a year without
/// four digits.
#[must_use]
pub fn parse(text: &str) -> Option<OffsetDateTime> {
    let end = text.find('(').unwrap_or(text.len());
    let (dated, comment) = text.split_at_checked(end)?;
    let (local, zone) = dated.trim_end().rsplit_once([' ', '\t'])?;
    if !UTC.iter().any(|utc| utc.eq_ignore_ascii_case(zone)) {
        return None;
    }
    let is_plain = comment.is_empty() && !zone.eq_ignore_ascii_case("UTC");
    // The parser does not have the zone `UTC`, and a comment only behind an offset.
    let text = if is_plain { Cow::from(text) } else { Cow::from(format!("{local} +0000 {comment}")) };
    let date = OffsetDateTime::parse(&text, &Rfc2822).ok()?;
    (weekday_fits(local, date) && has_whole_year(local, date)).then_some(date)
}

/// Whether a date has the right weekday or none. The parser accepts a wrong one.
fn weekday_fits(text: &str, date: OffsetDateTime) -> bool {
    const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let text = text.trim_start();
    let name = NAMES.get(usize::from(date.weekday().number_days_from_monday()));
    !text.starts_with(|c: char| c.is_ascii_alphabetic())
        || text.get(..3).zip(name).is_some_and(|(sent, name)| sent.eq_ignore_ascii_case(name))
}

/// Whether the year has four digits. The parser also accepts the years of RFC 822.
fn has_whole_year(text: &str, date: OffsetDateTime) -> bool {
    text.split_ascii_whitespace().any(|part| part.len() == 4 && part.parse() == Ok(date.year()))
}

/// The instant as IMF-fixdate.
#[must_use]
pub fn format(date: OffsetDateTime) -> String {
    // Formatting cannot fail, because every date has the components of the format.
    date.to_offset(UtcOffset::UTC).format(IMF_FIXDATE).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc_5322_dates_in_utc_name_their_instant() {
        for text in [
            EXAMPLE,
            "Fri, 1 Mar 2024 12:00:00 GMT",
            "Fri,  1 Mar 2024 12:00:00 GMT",
            "Fri, 01 Mar 2024 12:00:00 UTC",
            "Fri, 01 Mar 2024 12:00:00 UT",
            "Fri, 01 Mar 2024 12:00:00 Z",
            "Fri, 01 Mar 2024 12:00:00 +0000",
            "Fri, 01 Mar 2024 12:00:00 -0000",
            "Fri, 01 Mar 2024 12:00:00 +0000 (UTC)",
            "fri, 01 mar 2024 12:00:00 gmt",
            "01 Mar 2024 12:00:00 GMT",
            "1 Mar 2024 12:00 GMT",
        ] {
            assert_eq!(parse(text).map(|date| date.unix_timestamp()), Some(1_709_294_400), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_dates() {
        for text in [
            "",
            "Friday, 01-Mar-24 12:00:00 GMT",
            "Friday, 01 Mar 2024 12:00:00 GMT",
            "Fri Mar  1 12:00:00 2024",
            "Fri Mar  1 12:00:00 UTC 2024",
            "2024-03-01T12:00:00Z",
            "2024-03-01 12:00:00 UTC",
            "1709294400",
            "Fri, 01 Mar 2024 12:00:00",
            "Fri, 01 Mar 2024 13:00:00 +0100",
            "Fri, 01 Mar 2024 07:00:00 EST",
            "Fri, 01 Mar 2024 12:00:00 A",
            "Fri, 01 Mar 2024 12:00:00 CET",
            "Thu, 01 Mar 2024 12:00:00 GMT",
            "Fri, 01 Mar 24 12:00:00 GMT",
            "Fri, 30 Feb 2024 12:00:00 GMT",
            "Fri, 01 Mar 2024 12:00:60 GMT",
            "Fri, 01 Mar 2024 24:00:00 GMT",
            "Wed, 01 Mar 10000 12:00:00 GMT",
            "Fri, 01 Mar 2024 12:00:00.000 GMT",
            "Fri, 01 Mar 2024 12:00:00 GMT;",
            "Fri, 01 Mar 2024 12:00:00 GMT (",
            "Fri, 01 Mar 2024 12:00:00 PM GMT",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_second_round_trips(second in -2_208_988_800_i64..253_402_300_799) {
            let date = OffsetDateTime::from_unix_timestamp(second).unwrap();
            prop_assert_eq!(parse(&format(date)), Some(date));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,40}|[A-Za-z0-9,:+() -]{0,40}|\\({0,2000}") {
            let _ = parse(&text);
        }
    }
}
