//! The only date format of signatures: IMF-fixdate (RFC 9110 section 5.6.7).

use httpdate::{fmt_http_date, parse_http_date};
use time::OffsetDateTime;

/// The moment of a date from 1970 on. `None` for another format, a wrong weekday or an impossible day.
#[must_use]
pub fn parse(text: &str) -> Option<OffsetDateTime> {
    let date = parse_http_date(text).ok()?;
    // The parser also accepts older formats and a wrong weekday. The comparison with the formatted date excludes both.
    (fmt_http_date(date) == text).then(|| date.into())
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
            "Wed, 31 Dec 1969 23:59:59 GMT",
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
            prop_assert_eq!(parse(&fmt_http_date(date.into())), Some(date));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
