//! Points in time as people type them: `2027-01-31` (a day, by this machine's clock), `2027-01-31T12:00:00Z`, or Unix seconds.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

fn seconds(at: Timestamp) -> Result<u64, String> {
    u64::try_from(at.as_second()).map_err(|_| "a time before 1970".to_owned())
}

fn read(text: &str, days: i64) -> Result<u64, String> {
    let text = text.trim();
    if let Ok(unix_s) = text.parse() {
        return Ok(unix_s);
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return seconds(at);
    }
    let wrong = || format!("`{text}` is no time; write 2027-01-31 or 2027-01-31T12:00:00Z");
    let day: Date = text.parse().map_err(|_| wrong())?;
    let day = day.checked_add(jiff::Span::new().days(days)).map_err(|_| wrong())?;
    seconds(day.to_zoned(TimeZone::system()).map_err(|_| wrong())?.timestamp())
}

/// The first second of a day, or the time itself.
///
/// # Errors
/// When it is no time.
pub fn begin_of(text: &str) -> Result<u64, String> {
    read(text, 0)
}

/// The first second after a day, or the time itself.
///
/// # Errors
/// When it is no time.
pub fn end_of(text: &str) -> Result<u64, String> {
    read(text, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_times_and_seconds_are_read() {
        assert_eq!(begin_of("1700000000"), Ok(1_700_000_000));
        assert_eq!(end_of("2023-11-14T22:13:20Z"), Ok(1_700_000_000));
        let (begin, end) = (begin_of("2026-03-05").unwrap(), end_of("2026-03-05").unwrap());
        assert!((23 * 3600..=25 * 3600).contains(&(end - begin)), "a day, whatever the clock does in it");
        for wrong in ["", "soon", "2026-13-01", "1969-01-01", "-5"] {
            assert!(begin_of(wrong).is_err(), "{wrong}");
        }
    }
}
