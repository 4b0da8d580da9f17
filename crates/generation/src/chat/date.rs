//! `strftime_now`: the date in a system prompt.

use chrono::{DateTime, Datelike, FixedOffset, Local, NaiveDateTime, Timelike};
use std::fmt::Write;
use std::time::SystemTime;

/// Maximum width of a field.
const WIDTH_LIMIT: usize = 64;

/// The time of `strftime_now`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// `None` for now.
    pub(super) now: Option<SystemTime>,
    /// Seconds east of Greenwich; `None` for the time zone of the system.
    pub(super) utc_offset: Option<i32>,
}

impl Clock {
    /// `datetime.now().strftime(format)` in the C locale, as the C library of Linux writes it.
    pub(super) fn strftime(&self, format: &str) -> Result<String, String> {
        let now = self.now.unwrap_or_else(SystemTime::now);
        // Local times outside the range of a date are errors.
        let in_range = now.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since.as_secs() < 1 << 37);
        if !in_range {
            return Err("the time is before 1970 or after 6000".to_owned());
        }
        let time = match self.utc_offset {
            Some(seconds) => {
                let offset = FixedOffset::east_opt(seconds).ok_or("the offset from UTC is a day or more")?;
                DateTime::<chrono::Utc>::from(now).with_timezone(&offset)
            }
            None => DateTime::<Local>::from(now).fixed_offset(),
        };
        write_date(&time, format)
    }
}

fn write_date(time: &DateTime<FixedOffset>, format: &str) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        text.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        let flags = rest.find(|flag| !matches!(flag, '-' | '_' | '0' | '^' | '#')).unwrap_or(rest.len());
        let (flags, after) = rest.split_at(flags);
        let digits = after.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(after.len());
        let (width, after) = after.split_at(digits);
        // `%Ey` and `%Od` write other digits only in other locales.
        let after = after.strip_prefix(['E', 'O', ':']).unwrap_or(after);
        let directive = after.chars().next();
        match directive.and_then(|directive| field(time, directive)) {
            Some(field) => {
                let width = if width.is_empty() { None } else { Some(width.parse().unwrap_or(usize::MAX)) };
                if width.is_some_and(|width| width > WIDTH_LIMIT) {
                    return Err(format!("a field of a date has at most {WIDTH_LIMIT} characters"));
                }
                field.write(&mut text, flags, width);
                rest = &after[directive.map_or(0, char::len_utf8)..];
            }
            // Unknown directives are copied.
            None => text.push('%'),
        }
    }
    text.push_str(rest);
    Ok(text)
}

/// The text of a directive, and how it is padded.
struct Field {
    text: String,
    fill: char,
    width: usize,
}

impl Field {
    fn write(self, out: &mut String, flags: &str, width: Option<usize>) {
        let (mut fill, mut wanted) = (self.fill, width.unwrap_or(self.width));
        let mut text = self.text;
        for flag in flags.chars() {
            match flag {
                '-' => wanted = width.unwrap_or(0),
                '_' => fill = ' ',
                '0' => fill = '0',
                '#' if matches!(text.as_str(), "AM" | "PM") => text.make_ascii_lowercase(),
                _ => text.make_ascii_uppercase(),
            }
        }
        out.extend(std::iter::repeat_n(fill, wanted.saturating_sub(text.chars().count())));
        out.push_str(&text);
    }
}

fn field(time: &DateTime<FixedOffset>, directive: char) -> Option<Field> {
    let local: NaiveDateTime = time.naive_local();
    let written = |format: &str| {
        let mut text = String::new();
        // A format from this function, whose fields a date without a zone has.
        write!(text, "{}", local.format(format)).ok()?;
        Some(Field { text, fill: ' ', width: 0 })
    };
    let number = |value: i64, fill: char, width: usize| Some(Field { text: value.to_string(), fill, width });
    let hour = i64::from(local.hour());
    let (year, week) = (i64::from(local.year()), local.iso_week());
    match directive {
        'Y' => number(year, '0', 4),
        'y' => number(year % 100, '0', 2),
        'C' => number(year / 100, '0', 2),
        'G' => number(i64::from(week.year()), '0', 4),
        'g' => number(i64::from(week.year() % 100), '0', 2),
        'V' => number(i64::from(week.week()), '0', 2),
        'm' => number(i64::from(local.month()), '0', 2),
        'd' => number(i64::from(local.day()), '0', 2),
        'e' => number(i64::from(local.day()), ' ', 2),
        'j' => number(i64::from(local.ordinal()), '0', 3),
        'U' => number(i64::from((local.ordinal() + 6 - local.weekday().num_days_from_sunday()) / 7), '0', 2),
        'W' => number(i64::from((local.ordinal() + 6 - local.weekday().num_days_from_monday()) / 7), '0', 2),
        'u' => number(i64::from(local.weekday().number_from_monday()), '0', 1),
        'w' => number(i64::from(local.weekday().num_days_from_sunday()), '0', 1),
        'H' => number(hour, '0', 2),
        'k' => number(hour, ' ', 2),
        'I' => number((hour + 11) % 12 + 1, '0', 2),
        'l' => number((hour + 11) % 12 + 1, ' ', 2),
        'M' => number(i64::from(local.minute()), '0', 2),
        'S' => number(i64::from(local.second()), '0', 2),
        's' => number(time.timestamp(), '0', 1),
        // Python writes microseconds here, and no zone for a time without one.
        'f' => number(i64::from(local.nanosecond() / 1000 % 1_000_000), '0', 6),
        'z' | 'Z' => Some(Field { text: String::new(), fill: ' ', width: 0 }),
        'n' => Some(Field { text: "\n".to_owned(), fill: ' ', width: 0 }),
        't' => Some(Field { text: "\t".to_owned(), fill: ' ', width: 0 }),
        '%' => Some(Field { text: "%".to_owned(), fill: ' ', width: 0 }),
        'a' => written("%a"),
        'A' => written("%A"),
        'b' | 'h' => written("%b"),
        'B' => written("%B"),
        'p' => written("%p"),
        'P' => written("%P"),
        'c' => written("%a %b %e %H:%M:%S %Y"),
        'x' | 'D' => written("%m/%d/%y"),
        'X' | 'T' => written("%H:%M:%S"),
        'F' => written("%Y-%m-%d"),
        'R' => written("%H:%M"),
        'r' => written("%I:%M:%S %p"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn at(seconds: u64, utc_offset: i32, format: &str) -> String {
        let now = Some(UNIX_EPOCH + Duration::from_secs(seconds));
        Clock { now, utc_offset: Some(utc_offset) }.strftime(format).unwrap()
    }

    #[test]
    fn writes_dates_as_python_does() {
        // datetime.fromtimestamp(t, timezone(timedelta(seconds=offset))).replace(tzinfo=None).strftime(..)
        assert_eq!(at(0, 0, "%A %d %B %Y %H:%M:%S"), "Thursday 01 January 1970 00:00:00");
        assert_eq!(at(951_782_400, 0, "%d %b %Y, %a, %j, %-d, %-m"), "29 Feb 2000, Tue, 060, 29, 2");
        assert_eq!(at(1_767_225_599, 0, "%F %T %I %p %y"), "2025-12-31 23:59:59 11 PM 25");
        assert_eq!(at(1_709_164_800, 0, "%-d %% %Q %"), "29 % %Q %");
        assert_eq!(
            at(1_767_225_599, 3600, "%F %T|%c|%x|%X|%D|%R|%r"),
            "2026-01-01 00:59:59|Thu Jan  1 00:59:59 2026|01/01/26|00:59:59|01/01/26|00:59|12:59:59 AM"
        );
        assert_eq!(
            at(1_709_164_800, -7200, "%U %W %V %G %g %u %w %k|%l|%e|%C|%P|%f|%z|%Z|%s"),
            "08 09 09 2024 24 3 3 22|10|28|20|pm|000000|||1709164800"
        );
        assert_eq!(at(1_709_164_800, 0, "%^a %#p %_m %03d %5Y %_5d %Ey %Od"), "THU am  2 029 02024    29 24 29");
    }

    #[test]
    fn huge_times_and_widths_are_errors() {
        let late = Clock { now: Some(UNIX_EPOCH + Duration::from_secs(1 << 60)), utc_offset: None };
        assert!(late.strftime("%Y").is_err());
        assert!(Clock { now: None, utc_offset: Some(1 << 30) }.strftime("%Y").is_err());
        assert!(Clock::default().strftime("%1000000000d").is_err());
    }
}
