//! How much memory a device has, as far as the system tells.

use burn::tensor::Device;
use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// No file that is read here is longer; the rest is not read.
const MOST_BYTES_OF_FILE: u64 = 1 << 16;

/// Deeper control groups are not read.
const MOST_GROUPS: usize = 32;

/// Memory of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeviceMemory {
    /// All its memory, in bytes.
    pub total_bytes: u64,
    /// What new allocations can have now without swapping, in bytes. Page cache that the system can drop is part of it.
    pub available_bytes: u64,
    /// What bounds it.
    pub bound: MemoryBound,
}

/// What bounds the memory of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MemoryBound {
    /// What the machine has.
    System,
    /// The limit of a control group, as containers have it.
    ControlGroup,
    /// What a GPU has of its own.
    Device,
    /// A figure that the caller gave.
    Given,
}

impl DeviceMemory {
    /// The memory of `device`: for the CPU on Linux `MemTotal` and `MemAvailable` of `/proc/meminfo`, within the limits of
    /// the control groups (version 1 and 2) that this process is in; for NVIDIA's GPUs, in builds with the feature `cuda`, what the
    /// driver says is there and free, and what this process holds without using it, for which the GPU has to be opened. `None` for other devices and where the system does
    /// not tell.
    pub fn of(device: &Device) -> Option<Self> {
        if *device == Device::flex() {
            return cfg!(target_os = "linux").then(|| of_system(Path::new("/"))).flatten();
        }
        #[cfg(feature = "cuda")]
        if let Some((total_bytes, free_bytes)) = crate::cuda::memory_of(device) {
            let available_bytes = free_bytes.saturating_add(unused(device)).min(total_bytes);
            return Some(Self { total_bytes, available_bytes, bound: MemoryBound::Device });
        }
        None
    }

    /// A memory of `bytes` bytes, all of them available.
    pub fn given(bytes: u64) -> Self {
        Self { total_bytes: bytes, available_bytes: bytes, bound: MemoryBound::Given }
    }
}

/// What this process holds of a device's memory without a use for it, as after a model was dropped.
#[cfg(feature = "cuda")]
fn unused(device: &Device) -> u64 {
    let usage = device.memory_pool_usage();
    usage.map_or(0, |usage| usage.bytes_reserved.saturating_sub(usage.bytes_in_use))
}

/// `3.1 GiB of 15.6 GiB available`
impl fmt::Display for DeviceMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bound == MemoryBound::Given {
            return write!(f, "{} assumed", Bytes(self.available_bytes));
        }
        write!(f, "{} of {} available", Bytes(self.available_bytes), Bytes(self.total_bytes))?;
        f.write_str(match self.bound {
            MemoryBound::ControlGroup => " in this control group",
            MemoryBound::Device => " on this GPU",
            MemoryBound::System | MemoryBound::Given => "",
        })
    }
}

/// A number of bytes for people: `1.5 GiB`.
#[derive(Clone, Copy)]
pub(crate) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut units = ["KiB", "MiB", "GiB", "TiB"].into_iter();
        let mut unit = units.next().unwrap_or_default();
        for larger in units {
            // Not at 1024: what would be printed as 1024.0 belongs to the next unit.
            if value < 1023.95 {
                break;
            }
            (value, unit) = (value / 1024.0, larger);
        }
        write!(f, "{value:.1} {unit}")
    }
}

/// The memory of the machine whose file system begins at `root`.
fn of_system(root: &Path) -> Option<DeviceMemory> {
    let (total_bytes, available_bytes) = parse_meminfo(&read(&root.join("proc/meminfo"))?)?;
    let mut memory = DeviceMemory { total_bytes, available_bytes, bound: MemoryBound::System };
    let groups = read(&root.join("proc/self/cgroup")).unwrap_or_default();
    for (version, parts) in parse_groups(&groups) {
        // A limit of any group around this one counts. Containers often see their own group as the root of the tree,
        // whatever its path says.
        for depth in 0..=parts.len().min(MOST_GROUPS) {
            let mut directory = root.join(version.mount());
            directory.extend(parts.iter().take(depth));
            let Some(room) = version.room(&directory, total_bytes) else { continue };
            memory.total_bytes = memory.total_bytes.min(room.limit);
            if room.available < memory.available_bytes {
                memory.available_bytes = room.available;
                memory.bound = MemoryBound::ControlGroup;
            }
        }
    }
    Some(memory)
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST_BYTES_OF_FILE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Total and available bytes; `None` if one of them is missing, as on Linux before 3.14, or makes no sense.
fn parse_meminfo(text: &str) -> Option<(u64, u64)> {
    let bytes = |key: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let total = bytes("MemTotal")?;
    Some((total, bytes("MemAvailable")?.min(total)))
}

/// The two interfaces of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GroupVersion {
    V1,
    V2,
}

/// What a control group leaves.
struct Room {
    limit: u64,
    available: u64,
}

impl GroupVersion {
    fn mount(self) -> &'static str {
        match self {
            Self::V1 => "sys/fs/cgroup/memory",
            Self::V2 => "sys/fs/cgroup",
        }
    }

    /// Files of the limit and of what is in use, and what in `memory.stat` can be dropped.
    fn names(self) -> (&'static str, &'static str, &'static [&'static str]) {
        match self {
            Self::V1 => {
                ("memory.limit_in_bytes", "memory.usage_in_bytes", &["total_inactive_file", "total_active_file"])
            }
            Self::V2 => ("memory.max", "memory.current", &["inactive_file", "active_file", "slab_reclaimable"]),
        }
    }

    /// What the group of `directory` leaves; `None` without a limit below `total`.
    fn room(self, directory: &Path, total: u64) -> Option<Room> {
        let (limit, used, droppable) = self.names();
        let file = |name: &str| read(&directory.join(name));
        let limit = parse_bytes(&file(limit)?).filter(|limit| *limit < total)?;
        let used = parse_bytes(&file(used)?)?;
        // Page cache counts as used, but goes when memory is needed.
        let droppable = file("memory.stat").map_or(0, |stat| sum_of(&stat, droppable));
        Some(Room { limit, available: limit.saturating_sub(used.saturating_sub(droppable)) })
    }
}

/// The groups with a memory limit that `/proc/self/cgroup` names, as parts of their paths.
fn parse_groups(text: &str) -> Vec<(GroupVersion, Vec<&str>)> {
    let group = |line| {
        let mut fields = str::splitn(line, 3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let version = match controllers {
            "" if number == "0" => GroupVersion::V2,
            _ if controllers.split(',').any(|controller| controller == "memory") => GroupVersion::V1,
            _ => return None,
        };
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        // A group outside of what this process sees is written with `..`.
        let outside = parts.iter().any(|part| matches!(*part, "." | "..") || part.contains('\0'));
        Some((version, if outside { Vec::new() } else { parts }))
    };
    text.lines().filter_map(group).collect()
}

/// A number alone; `None` for `max`.
fn parse_bytes(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The sum of the lines `key value` with these keys.
fn sum_of(stat: &str, keys: &[&str]) -> u64 {
    let value = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        keys.contains(&key).then(|| parse_bytes(value)).flatten()
    };
    stat.lines().filter_map(value).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    const MEMINFO: &str =
        "MemTotal:       16384 kB\nMemFree:         100 kB\nMemAvailable:   12288 kB\nBuffers: 1 kB\n";
    const MIB: u64 = 1 << 20;

    /// A machine with these files.
    fn machine(files: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn memory(files: &[(&str, &str)]) -> Option<(u64, u64, MemoryBound)> {
        let memory = of_system(machine(files).path())?;
        Some((memory.total_bytes, memory.available_bytes, memory.bound))
    }

    #[test]
    fn without_control_groups_the_machine_counts() {
        assert_eq!(memory(&[("proc/meminfo", MEMINFO)]), Some((16 * MIB, 12 * MIB, MemoryBound::System)));
        assert_eq!(memory(&[]), None);
    }

    #[test]
    fn numbers_that_make_no_sense_are_unknown() {
        let hostile = [
            "",
            "MemTotal: 16384 kB\n",
            "MemAvailable: 16384 kB\n",
            "MemTotal: 16384 kB\nMemAvailable: -1 kB\n",
            "MemTotal: 16384 kB\nMemAvailable: 12288 MB\n",
            "MemTotal: 16384 kB\nMemAvailable: 99999999999999999999999 kB\n",
            "MemTotal: 18446744073709551615 kB\nMemAvailable: 1 kB\n",
            "MemTotalX: 16384 kB\nMemAvailable: kB\n",
            "MemTotal\nMemAvailable\n",
        ];
        for text in hostile {
            assert_eq!(parse_meminfo(text), None, "{text:?}");
        }
        assert_eq!(parse_meminfo("MemAvailable:9 kB\r\nMemTotal:4kB\n"), Some((4096, 4096)), "never more than all");
        for text in ["max", "max\n", "", "-1", "18446744073709551616", "1 2", "0x10"] {
            assert_eq!(parse_bytes(text), None, "{text:?}");
        }
        assert_eq!(parse_bytes("18446744073709551615\n"), Some(u64::MAX));
        assert_eq!(sum_of("a 18446744073709551615\nb 5\nc 1\nb\nb x\n", &["a", "b"]), u64::MAX);
    }

    #[test]
    fn groups_are_those_with_a_memory_controller() {
        use GroupVersion::{V1, V2};
        let text =
            "9:name=systemd:/memory\n4:cpu,memory:/a/b:c\n3:memoryless:/x\n0::/d//e/\n0::/../../f\n7:memory\n\n::\n";
        let expected = vec![(V1, vec!["a", "b:c"]), (V2, vec!["d", "e"]), (V2, vec![])];
        assert_eq!(parse_groups(text), expected);
    }

    #[test]
    fn limits_of_groups_count_and_their_page_cache_does_not() {
        let group = "sys/fs/cgroup/pod/box/";
        let file = |name: &str| format!("{group}{name}");
        let (max, current, stat) = (file("memory.max"), file("memory.current"), file("memory.stat"));
        let base = [("proc/meminfo", MEMINFO), ("proc/self/cgroup", "0::/pod/box\n")];
        let with = |more: &[(&str, &str)]| memory(&[&base, more].concat()).unwrap();
        assert_eq!(with(&[(&max, "max\n"), (&current, "5\n")]), (16 * MIB, 12 * MIB, MemoryBound::System));
        assert_eq!(with(&[(&max, "8388608\n")]), (16 * MIB, 12 * MIB, MemoryBound::System), "use is not known");
        let limited = [(max.as_str(), "8388608\n"), (current.as_str(), "6291456\n")];
        assert_eq!(with(&limited), (8 * MIB, 2 * MIB, MemoryBound::ControlGroup));
        let cached = "anon 1048576\nfile 5242880\ninactive_file 1048576\nactive_file 3145728\nslab_reclaimable 0\n";
        let cached = [&limited[..], &[(&stat, cached)]].concat();
        assert_eq!(with(&cached), (8 * MIB, 6 * MIB, MemoryBound::ControlGroup));
        // The tighter of the groups around it; more in use than allowed leaves nothing.
        let around = [("sys/fs/cgroup/pod/memory.max", "4194304"), ("sys/fs/cgroup/pod/memory.current", "9999999999")];
        assert_eq!(with(&[&cached[..], &around].concat()), (4 * MIB, 0, MemoryBound::ControlGroup));
        // A roomy limit on a busy machine.
        let roomy = [(max.as_str(), "15728640"), (current.as_str(), "1048576")];
        assert_eq!(with(&roomy), (15 * MIB, 12 * MIB, MemoryBound::System));
    }

    #[test]
    fn version_1_is_found_at_the_root_of_a_container() {
        let root = "sys/fs/cgroup/memory/";
        let file = |name: &str| format!("{root}{name}");
        let (limit, used, stat) = (file("memory.limit_in_bytes"), file("memory.usage_in_bytes"), file("memory.stat"));
        let base = [("proc/meminfo", MEMINFO), ("proc/self/cgroup", "4:memory:/docker/0123\n0::/\n")];
        let with = |limit_bytes| {
            let stat = (stat.as_str(), "inactive_file 9999999\ntotal_inactive_file 524288\ntotal_active_file 524288\n");
            memory(&[&base[..], &[(&limit, limit_bytes), (&used, "3145728\n"), stat]].concat()).unwrap()
        };
        assert_eq!(with("4194304\n"), (4 * MIB, 2 * MIB, MemoryBound::ControlGroup));
        assert_eq!(with("9223372036854771712\n"), (16 * MIB, 12 * MIB, MemoryBound::System), "no limit");
    }

    #[test]
    fn files_of_any_size_and_content_do_no_harm() {
        let endless = "MemTotal: 1 kB\n".repeat(1 << 16);
        assert_eq!(memory(&[("proc/meminfo", &endless)]), None);
        let deep = format!("0::{}\n", "/x".repeat(10_000));
        let files = [("proc/meminfo", MEMINFO), ("proc/self/cgroup", deep.as_str())];
        assert_eq!(memory(&files), Some((16 * MIB, 12 * MIB, MemoryBound::System)));
        let root = machine(&[("proc/meminfo", MEMINFO)]);
        fs::create_dir_all(root.path().join("proc/self/cgroup")).unwrap();
        assert!(of_system(root.path()).is_some(), "a directory in place of a file");
        fs::write(root.path().join("proc/meminfo"), b"\xff\xfeMemTotal: \xff kB\nMemAvailable: 1 kB\n").unwrap();
        assert_eq!(of_system(root.path()), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells() {
        let memory = DeviceMemory::of(&Device::flex()).unwrap();
        assert!(memory.available_bytes <= memory.total_bytes && memory.total_bytes > 64 * MIB, "{memory:?}");
    }

    #[test]
    fn memory_reads_well() {
        assert_eq!(DeviceMemory::given(3 << 30).to_string(), "3.0 GiB assumed");
        let bound = MemoryBound::ControlGroup;
        let memory = DeviceMemory { total_bytes: (1 << 30) - 1, available_bytes: 1023, bound };
        assert_eq!(memory.to_string(), "1023 B of 1.0 GiB available in this control group");
        assert_eq!(Bytes(u64::MAX).to_string(), "16777216.0 TiB");
    }
}
