//! The process in which inputs are run.

use automodel_fuzz::{Target, check, mutate::Mutator, named, say_aloud};
use std::{
    collections::HashSet,
    error::Error,
    fs,
    panic::{AssertUnwindSafe, catch_unwind, set_hook},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    Arguments,
    findings::{Current, Findings, corpus},
};

/// An input that takes longer ends the process.
pub const LONGEST: Duration = Duration::from_secs(30);
/// Inputs that take longer are kept and named, but are no findings: the machine may be busy.
const SLOW: Duration = Duration::from_secs(3);
/// The exit code where an input took too long.
pub const TOO_LONG: i32 = 70;
/// Kinds of findings after which a target has said enough.
const MOST: usize = 12;

/// Runs the corpus, then mutations of it, or one input; says whether all was well.
pub fn run(arguments: &Arguments, first: u64) -> Result<bool, Box<dyn Error>> {
    let target = arguments.target.as_deref().and_then(named).ok_or("no such target")?;
    let findings = Findings::of(&arguments.artifacts, target.name)?;
    let session = Session { target, current: findings.current()?, findings, panic: last_panic(), watch: watch() };
    if let Some(path) = &arguments.input {
        return session.one(&fs::read(path)?);
    }
    session.many(arguments, first)
}

struct Session {
    target: &'static Target,
    findings: Findings,
    current: Current,
    panic: Arc<Mutex<String>>,
    watch: Arc<AtomicU64>,
}

impl Session {
    fn one(&self, input: &[u8]) -> Result<bool, Box<dyn Error>> {
        say_aloud();
        let start = Instant::now();
        let outcome = self.outcome(input);
        let seconds = start.elapsed().as_secs_f64();
        match &outcome {
            Ok(peak) => {
                eprintln!("{}: {peak} of {} bytes, {seconds:.3} s", self.target.name, self.target.allowed(input.len()))
            }
            Err((kind, what)) => eprintln!("{}: {kind}: {what}", self.target.name),
        }
        Ok(outcome.is_ok())
    }

    fn many(&self, arguments: &Arguments, first: u64) -> Result<bool, Box<dyn Error>> {
        let end = Instant::now() + Duration::from_secs(arguments.seconds);
        let seeds: Vec<Vec<u8>> =
            corpus(&arguments.corpus, self.target.name)?.into_iter().map(|(_, seed)| seed).collect();
        if seeds.is_empty() {
            return Err(format!("{} has no corpus", self.target.name).into());
        }
        let mutator = Mutator::new(self.target, &seeds);
        let (mut number, mut known, mut highest) = (first, HashSet::new(), (0usize, 0usize));
        // The corpus is run whole however short the time is.
        while (number < seeds.len() as u64 || Instant::now() < end) && known.len() < MOST {
            let mutated;
            let input = match usize::try_from(number).ok().and_then(|index| seeds.get(index)) {
                Some(seed) => seed,
                None => {
                    mutated = mutator.input(arguments.seed, number);
                    &mutated
                }
            };
            self.current.set(number, input)?;
            let start = Instant::now();
            match self.outcome(input) {
                Ok(peak) => highest = highest.max((peak, input.len())),
                Err((kind, what)) => {
                    // Of one place in the code, one input is enough.
                    let place = if kind == "memory" { kind.to_owned() } else { what.clone() };
                    if known.insert(place) {
                        self.findings.keep(kind, &what, input)?;
                    }
                }
            }
            if start.elapsed() > SLOW {
                let what = format!("{:.1} s for input {number}", start.elapsed().as_secs_f64());
                self.findings.keep("slow", &what, input)?;
            }
            number += 1;
        }
        self.current.clear()?;
        eprintln!(
            "{}: {} inputs, the most memory {} bytes for {} of input, {} kinds of findings",
            self.target.name,
            number - first,
            highest.0,
            highest.1,
            known.len()
        );
        Ok(known.is_empty())
    }

    /// The peak of memory, or the kind of finding and what was found.
    fn outcome(&self, input: &[u8]) -> Result<usize, (&'static str, String)> {
        self.watch.store(millis().max(1), Relaxed);
        let outcome = catch_unwind(AssertUnwindSafe(|| check(self.target, input)));
        self.watch.store(0, Relaxed);
        match outcome {
            Ok(Ok(usage)) => Ok(usage.peak),
            Ok(Err(excess)) => Err(("memory", excess.to_string())),
            Err(_) => Err(("panic", self.panic.lock().unwrap_or_else(PoisonError::into_inner).clone())),
        }
    }
}

/// Keeps what the last panic said. Panics that the code catches itself are not printed.
fn last_panic() -> Arc<Mutex<String>> {
    let last = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&last);
    set_hook(Box::new(move |panic| {
        let text: String = panic.to_string().chars().take(500).collect();
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }));
    last
}

/// Milliseconds since some moment.
fn millis() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Ends the process when an input takes too long. The number is when it began; 0 between two inputs.
fn watch() -> Arc<AtomicU64> {
    let began = Arc::new(AtomicU64::new(0));
    let watched = Arc::clone(&began);
    millis();
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_millis(200));
            let began = watched.load(Relaxed);
            if began != 0 && Duration::from_millis(millis().saturating_sub(began)) > LONGEST {
                std::process::exit(TOO_LONG);
            }
        }
    });
    began
}
