//! The machine that a table is about: processor, instruction sets, cores, and the date.

use std::{
    collections::BTreeSet,
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

/// Instruction sets that kernels choose between; others are not named. x86-64 and 64-bit Arm.
const SETS: [&str; 22] = [
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512dq",
    "avx512vbmi",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
    "sve2",
    "sme",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub date: String,
    pub processor: Processor,
    pub threads: u32,
    /// Running processes on average over the last minute, before the first measurement.
    pub load: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processor {
    pub name: String,
    pub sets: Vec<&'static str>,
    pub cores: usize,
}

impl Machine {
    pub fn read(threads: u32) -> Self {
        let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() / 86_400);
        let load = fs::read_to_string("/proc/loadavg").ok();
        Self {
            date: date(days),
            processor: Processor::parse(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            threads,
            load: load.and_then(|load| load.split(' ').next().map(str::to_owned)),
        }
    }

    pub fn json(&self) -> Value {
        json!({
            "date": self.date,
            "processor": self.processor.name,
            "instruction_sets": self.processor.sets,
            "cores": self.processor.cores,
            "threads": self.threads,
            "load_average": self.load,
        })
    }
}

impl Processor {
    /// From `/proc/cpuinfo`: blocks of `key : value` lines, one block for each core.
    fn parse(cpuinfo: &str) -> Self {
        let values = |key: &str| {
            let pairs = cpuinfo.lines().filter_map(|line| line.split_once(':'));
            pairs.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim()).collect::<Vec<_>>()
        };
        let first = |key: &str| values(key).first().copied();
        // The name alone says little on virtual machines: "AMD EPYC".
        let name = match (first("model name"), first("cpu family"), first("model")) {
            (Some(name), Some(family), Some(model)) => format!("{name} (family {family}, model {model})"),
            (Some(name), ..) => name.to_owned(),
            (None, ..) => "unknown processor".to_owned(),
        };
        let flags: BTreeSet<&str> = first("flags").or(first("Features")).unwrap_or_default().split(' ').collect();
        let sets = SETS.into_iter().filter(|set| flags.contains(set)).collect();
        Self { name, sets, cores: values("processor").len() }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Processor { name, sets, cores } = &self.processor;
        write!(formatter, "{}, {cores} cores of {name} with {}; {} threads", self.date, sets.join(" "), self.threads)?;
        match &self.load {
            Some(load) => write!(formatter, "; load average {load} at the start"),
            None => Ok(()),
        }
    }
}

/// Year, month and day of a number of days after 1970-01-01.
/// Source: <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
fn date(days: u64) -> String {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_named_with_what_kernels_use() {
        let core = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n\
                    flags\t\t: fpu sse4_1 fma avx2 avx512fx avx512_bf16 amx_tile\n\n";
        let processor = Processor::parse(&core.repeat(2));
        assert_eq!(processor.name, "AMD EPYC (family 25, model 1)");
        assert_eq!(processor.sets, ["avx2", "fma", "avx512_bf16", "amx_tile"]);
        assert_eq!(processor.cores, 2);
        let arm = Processor::parse("processor\t: 0\nFeatures\t: fp asimd i8mm\n");
        assert_eq!((arm.sets, arm.cores), (vec!["asimd", "i8mm"], 1));
        assert_eq!(Processor::parse("").name, "unknown processor");
    }

    #[test]
    fn days_are_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(11_017), "2000-03-01");
        assert_eq!(date(20_453), "2025-12-31");
    }
}
