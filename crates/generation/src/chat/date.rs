//! `strftime_now`: the date in a system prompt.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// `datetime.strftime` in UTC and in the C locale; directives it does not know stay as they are.
pub(super) fn strftime(time: SystemTime, format: &str) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let date = Date::new(seconds);
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let Some(mut directive) = characters.next() else {
            text.push('%');
            break;
        };
        // `%-d` is a number without leading zeros.
        let padded = directive != '-';
        if !padded {
            directive = characters.next().unwrap_or('-');
        }
        match date.write(directive) {
            Some(field) if padded => text.push_str(&field),
            Some(field) => text.push_str(match field.trim_start_matches('0') {
                "" => "0",
                short => short,
            }),
            None => text.extend(['%', directive]),
        }
    }
    text
}

struct Date {
    year: u64,
    /// 1..=12.
    month: u64,
    /// 1..=31.
    day: u64,
    /// 1..=366.
    day_of_year: u64,
    /// 0 is Sunday.
    weekday: usize,
    /// Since midnight.
    seconds: u64,
}

impl Date {
    fn new(seconds: u64) -> Self {
        let mut days = seconds / 86_400;
        let weekday = ((days + 4) % 7) as usize;
        // In whole cycles of 400 years first, which all have the same number of days.
        let mut year = 1970 + days / 146_097 * 400;
        days %= 146_097;
        while days >= year_length(year) {
            days -= year_length(year);
            year += 1;
        }
        let day_of_year = days + 1;
        let mut month = 1;
        while days >= month_length(year, month) {
            days -= month_length(year, month);
            month += 1;
        }
        Self { year, month, day: days + 1, day_of_year, weekday, seconds: seconds % 86_400 }
    }

    fn write(&self, directive: char) -> Option<String> {
        let hour = self.seconds / 3600;
        let month = MONTHS.get(self.month as usize - 1)?;
        let weekday = DAYS.get(self.weekday)?;
        Some(match directive {
            'Y' => self.year.to_string(),
            'y' => format!("{:02}", self.year % 100),
            'm' => format!("{:02}", self.month),
            'd' => format!("{:02}", self.day),
            'e' => format!("{:2}", self.day),
            'j' => format!("{:03}", self.day_of_year),
            'B' => (*month).to_owned(),
            'b' | 'h' => month[..3].to_owned(),
            'A' => (*weekday).to_owned(),
            'a' => weekday[..3].to_owned(),
            'w' => self.weekday.to_string(),
            'H' => format!("{hour:02}"),
            'I' => format!("{:02}", (hour + 11) % 12 + 1),
            'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            'M' => format!("{:02}", self.seconds / 60 % 60),
            'S' => format!("{:02}", self.seconds % 60),
            'F' => format!("{}-{:02}-{:02}", self.year, self.month, self.day),
            'T' => format!("{hour:02}:{:02}:{:02}", self.seconds / 60 % 60, self.seconds % 60),
            'D' => format!("{:02}/{:02}/{:02}", self.month, self.day, self.year % 100),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn year_length(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn month_length(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn writes_dates_as_python_does() {
        // datetime.fromtimestamp(t, UTC).strftime(..)
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(strftime(at(0), "%A %d %B %Y %H:%M:%S"), "Thursday 01 January 1970 00:00:00");
        assert_eq!(strftime(at(951_782_400), "%d %b %Y, %a, %j, %-d, %-m"), "29 Feb 2000, Tue, 060, 29, 2");
        assert_eq!(strftime(at(1_767_225_599), "%F %T %I %p %y"), "2025-12-31 23:59:59 11 PM 25");
        assert_eq!(strftime(at(1_709_164_800), "%-d %% %Q %"), "29 % %Q %");
    }

    #[test]
    fn no_time_is_too_late() {
        assert!(strftime(UNIX_EPOCH + Duration::from_secs(1 << 60), "%Y").len() > 9);
    }
}
