//! The one date format that signatures use: IMF-fixdate (RFC 9110 section 5.6.7).

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

const IMF_FIXDATE: &[BorrowedFormatItem<'_>] = format_description!(
    version = 2,
    "[weekday repr:short case_sensitive:true], [day padding:zero] [month repr:short case_sensitive:true] \
     [year padding:zero repr:full range:standard] [hour]:[minute]:[second] GMT"
);

/// Length of every IMF-fixdate, in bytes.
const LENGTH: usize = 29;

/// The moment a date names; nothing for any other format, a wrong weekday or an impossible day.
#[must_use]
pub fn parse(text: &str) -> Option<OffsetDateTime> {
    if text.len() != LENGTH {
        return None;
    }
    let date = PrimitiveDateTime::parse(text, IMF_FIXDATE).ok()?.assume_utc();
    // The parser may read a weekday without comparing it with the date: writing the date again does.
    (format(date)? == text).then_some(date)
}

/// A moment as an IMF-fixdate.
#[must_use]
pub fn format(date: OffsetDateTime) -> Option<String> {
    date.to_offset(time::UtcOffset::UTC).format(IMF_FIXDATE).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_imf_fixdate_is_a_date() {
        assert_eq!(parse("Fri, 01 Mar 2024 12:00:00 GMT").unwrap().unix_timestamp(), 1_709_294_400);
        for text in [
            "",
            "Friday, 01-Mar-24 12:00:00 GMT",
            "Fri Mar  1 12:00:00 2024",
            "2024-03-01T12:00:00Z",
            "Fri, 01 Mar 2024 12:00:00 gmt",
            "Fri, 01 Mar 2024 12:00:00 +0000",
            "Thu, 01 Mar 2024 12:00:00 GMT",
            "Fri, 1 Mar 2024 12:00:00 GMT",
            "Fri, 01 Mar 24 12:00:00 GMT",
            "Fri, 30 Feb 2024 12:00:00 GMT",
            "fri, 01 Mar 2024 12:00:00 GMT",
            "Fri, 01 Mar 2024 12:00:60 GMT",
            "Fri, 01 Mar 2024 24:00:00 GMT",
            "Wed, 01 Mar 10000 12:00:00 GMT",
            "Fri, 01 Mar 2024 12:00:00 GMT ",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_second_round_trips(second in 0_i64..253_402_300_799) {
            let date = OffsetDateTime::from_unix_timestamp(second).unwrap();
            prop_assert_eq!(parse(&format(date).unwrap()), Some(date));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
