//! Starts the processes in which targets run, and goes on after one that an input ended.

use automodel_fuzz::{TARGETS, named};
use std::{
    env,
    error::Error,
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use crate::{
    Arguments,
    child::{LONGEST, TOO_LONG},
    findings::Findings,
};

/// Kilobytes of address space of a child: memory that libraries in C ask for is not counted by the allocator.
const ADDRESS_SPACE: u64 = 8 << 20;
/// Children of one target that may end early before the rest of its time is given up.
const MOST_ENDS: u32 = 6;

/// Runs the targets that are asked for; says whether all was well.
pub fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let names: Vec<&str> = match &arguments.target {
        Some(name) => vec![named(name).ok_or_else(|| unknown(name))?.name],
        None => TARGETS.iter().map(|target| target.name).collect(),
    };
    let share = Duration::from_secs(arguments.seconds) / names.len() as u32;
    let mut is_well = true;
    for name in names {
        is_well &= if arguments.input.is_some() { one(arguments, name)? } else { many(arguments, name, share)? };
    }
    Ok(is_well)
}

fn unknown(name: &str) -> String {
    let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    format!("there is no target `{name}`; there are {}", known.join(", "))
}

fn one(arguments: &Arguments, name: &str) -> Result<bool, Box<dyn Error>> {
    let status = child(arguments, name, 0, Duration::ZERO)?;
    if !matches!(status.code(), Some(0 | 1)) {
        eprintln!("{name}: {}", end(status));
    }
    Ok(status.success())
}

fn many(arguments: &Arguments, name: &str, share: Duration) -> Result<bool, Box<dyn Error>> {
    let findings = Findings::of(&arguments.artifacts, name)?;
    let current = findings.current()?;
    let (end_of_share, mut first, mut is_well) = (Instant::now() + share, 0, true);
    for _ in 0..MOST_ENDS {
        current.clear()?;
        let left = end_of_share.saturating_duration_since(Instant::now());
        let status = child(arguments, name, first, left)?;
        match status.code() {
            Some(0) => return Ok(is_well),
            Some(1) => return Ok(false),
            Some(2) => return Err(format!("the target {name} could not be run").into()),
            _ => {}
        }
        is_well = false;
        let Some((number, input)) = current.get()? else { return Err(format!("{name}: {}", end(status)).into()) };
        findings.keep("end", &end(status), &input)?;
        first = number + 1;
    }
    eprintln!("{name}: given up after {MOST_ENDS} inputs that ended the process");
    Ok(false)
}

/// Runs the child, with a folder for temporary files that is gone after it.
fn child(arguments: &Arguments, name: &str, first: u64, time: Duration) -> Result<ExitStatus, Box<dyn Error>> {
    let scratch = tempfile::Builder::new().prefix("automodel-fuzz-").tempdir()?;
    let mut command = if cfg!(unix) {
        // The limits are those of the shell, which becomes the child.
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -c 0; ulimit -v {ADDRESS_SPACE}; exec \"$@\""), "sh"]);
        shell.arg(env::current_exe()?);
        shell
    } else {
        Command::new(env::current_exe()?)
    };
    command.args(["--target", name, "--child", &first.to_string()]);
    command.args(["--seed", &arguments.seed.to_string(), "--seconds", &time.as_secs().to_string()]);
    command.arg("--corpus").arg(&arguments.corpus).arg("--artifacts").arg(&arguments.artifacts);
    if let Some(input) = &arguments.input {
        command.arg("--input").arg(input);
    } else {
        // One input shows where it ends; of many that is too much.
        command.env("RUST_BACKTRACE", "0");
    }
    Ok(command.env("TMPDIR", scratch.path()).status()?)
}

fn end(status: ExitStatus) -> String {
    match status.code() {
        Some(TOO_LONG) => format!("it took more than {} s", LONGEST.as_secs()),
        _ => format!("the process ended ({status}): out of memory, out of stack, or an abort"),
    }
}
