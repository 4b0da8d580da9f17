//! Asks the driver and NVRTC. Both may be missing, old, or something else under their name.

use cudarc::driver::result::{self as driver, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute};
use cudarc::nvrtc;
use std::path::PathBuf;

use super::{CudaFacts, CudaGpu, CudaHeaders, CudaLibrary, CudaVersion};

/// What kernels include for half precision and tensor cores; those in single precision include nothing.
const HEADERS: [&str; 3] = ["cuda_fp16.h", "cuda_bf16.h", "mma.h"];

/// Functions of the driver that are asked here or, to list GPUs, by CubeCL. cudarc panics where one is missing.
const DRIVER_FUNCTIONS: [&str; 13] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceTotalMem_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuMemGetInfo_v2",
    "cuGetErrorName",
    "cuGetErrorString",
];

pub(super) fn gather() -> CudaFacts {
    // On a thread of its own, since a GPU is opened for a thread.
    let asked = std::thread::spawn(ask_driver).join();
    let (driver, devices) = asked.unwrap_or_else(|_| (not_nvidia(), Vec::new()));
    let visible_devices = std::env::var_os("CUDA_VISIBLE_DEVICES").map(|list| list.to_string_lossy().into_owned());
    CudaFacts { driver, devices, visible_devices, ..compiler() }
}

pub(super) fn compiler() -> CudaFacts {
    CudaFacts { built_for: version(sys::CUDA_VERSION), nvrtc: ask_nvrtc(), headers: headers(), ..Default::default() }
}

/// Whether the driver can be asked for its GPUs without a panic: it is there, and is NVIDIA's.
pub(super) fn has_driver() -> bool {
    // SAFETY: the loader is asked for libraries of NVIDIA's names, as CubeCL does before every use of CUDA. Symbols are looked up and
    // not called.
    unsafe {
        sys::is_culib_present()
            && DRIVER_FUNCTIONS.iter().all(|name| sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()).is_ok())
    }
}

/// What the driver says of one GPU.
pub(super) fn gpu(index: usize) -> Option<CudaGpu> {
    let index = i32::try_from(index).ok()?;
    // On a thread of its own, since a GPU is opened for a thread.
    std::thread::spawn(move || driver::init().ok().map(|()| ask_gpu(index))).join().ok().flatten()
}

fn not_nvidia() -> CudaLibrary {
    let problem = Some("it lacks functions that NVIDIA's has".to_owned());
    CudaLibrary { found: true, problem, ..Default::default() }
}

fn ask_driver() -> (CudaLibrary, Vec<CudaGpu>) {
    if !has_driver() {
        // SAFETY: as in `has_driver`.
        let library = if unsafe { sys::is_culib_present() } { not_nvidia() } else { CudaLibrary::default() };
        return (library, Vec::new());
    }
    let mut number = 0;
    // SAFETY: the driver writes an integer, which outlives the call.
    let known = unsafe { sys::cuDriverGetVersion(&mut number) }.result();
    let started = known.and_then(|()| driver::init()).and_then(|()| driver::device::get_count());
    let library = CudaLibrary {
        found: true,
        file: loaded_file("libcuda"),
        version: known.is_ok().then(|| version(number.unsigned_abs())),
        problem: started.err().map(say),
    };
    (library, (0..started.unwrap_or(0)).map(ask_gpu).collect())
}

fn ask_gpu(index: i32) -> CudaGpu {
    let mut gpu = CudaGpu { index: index.unsigned_abs() as usize, name: "not known".to_owned(), ..Default::default() };
    gpu.problem = describe(index, &mut gpu).err().map(say);
    gpu
}

fn describe(index: i32, gpu: &mut CudaGpu) -> Result<(), DriverError> {
    let device = driver::device::get(index)?;
    gpu.name = driver::device::get_name(device)?;
    let attribute = |attribute| {
        // SAFETY: `device` comes from `get`.
        unsafe { driver::device::get_attribute(device, attribute) }.map(i32::unsigned_abs)
    };
    gpu.compute_capability = Some(CudaVersion {
        major: attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        minor: attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    });
    // SAFETY: `device` comes from `get`.
    gpu.total_bytes = Some(unsafe { driver::device::total_mem(device) }? as u64);
    // SAFETY: `device` comes from `get`. The context is current on this thread alone, and on none when it is released, once; others
    // hold it by their own count.
    let free = unsafe {
        let context = driver::primary_ctx::retain(device)?;
        let free = driver::ctx::set_current(context).and_then(|()| driver::mem_get_info());
        driver::ctx::set_current(std::ptr::null_mut())?;
        driver::primary_ctx::release(device)?;
        free
    };
    gpu.free_bytes = Some(free?.0 as u64);
    Ok(())
}

fn ask_nvrtc() -> CudaLibrary {
    // SAFETY: as in `has_driver`.
    let (found, has_version) = unsafe {
        let found = nvrtc::sys::is_culib_present();
        (found, found && nvrtc::sys::culib().get::<unsafe extern "C" fn()>(b"nvrtcVersion").is_ok())
    };
    if !has_version {
        return if found { not_nvidia() } else { CudaLibrary::default() };
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: NVRTC writes two integers, which outlive the call.
    let known = unsafe { nvrtc::sys::nvrtcVersion(&mut major, &mut minor) }.result();
    let version = CudaVersion { major: major.unsigned_abs(), minor: minor.unsigned_abs() };
    CudaLibrary {
        found: true,
        file: loaded_file("libnvrtc"),
        version: known.is_ok().then_some(version),
        problem: known.err().map(|error| format!("{:?}", error.0)),
    }
}

/// Where CubeCL will look.
fn headers() -> CudaHeaders {
    let folder = cubecl::cuda::install::cuda_path().map(|path| path.join("include"));
    let missing = folder.iter().flat_map(|folder| HEADERS.into_iter().filter(|name| !folder.join(name).is_file()));
    CudaHeaders { missing: missing.map(str::to_owned).collect(), folder }
}

/// CUDA's way to write 13.1 as 13010.
fn version(number: u32) -> CudaVersion {
    CudaVersion { major: number / 1000, minor: number % 1000 / 10 }
}

/// `CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)`
fn say(error: DriverError) -> String {
    match (error.error_name(), error.error_string()) {
        (Ok(name), Ok(text)) => format!("{} ({})", name.to_string_lossy(), text.to_string_lossy()),
        _ => format!("{:?}", error.0),
    }
}

/// The file of a library of this process, as Linux tells.
fn loaded_file(stem: &str) -> Option<PathBuf> {
    file_of(&std::fs::read_to_string("/proc/self/maps").ok()?, stem)
}

/// The first mapped file whose name is `stem` up to a dot or the 64 of some platforms.
fn file_of(maps: &str, stem: &str) -> Option<PathBuf> {
    let paths = maps.lines().filter_map(|line| line.find('/').map(|start| &line[start..]));
    let is_it = |path: &&str| {
        let rest = path.rsplit('/').next().and_then(|name| name.strip_prefix(stem));
        rest.is_some_and(|rest| rest.strip_prefix("64").unwrap_or(rest).starts_with('.'))
    };
    paths.into_iter().find(is_it).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_of_thousands_and_tens() {
        assert_eq!(version(12090).to_string(), "12.9");
        assert_eq!(version(13000).to_string(), "13.0");
    }

    #[test]
    fn libraries_are_found_among_what_is_mapped() {
        let maps = "\
7f00-7f01 r-xp 00000000 08:01 11 /usr/lib/libcudart.so.13\n\
7f00-7f01 r-xp 00000000 08:01 12 /opt/my libs/libnvrtc-builtins.so.13.0\n\
7f00-7f01 rw-p 00000000 00:00 0\n\
7f00-7f01 r--p 00000000 08:01 13 /opt/my libs/libnvrtc.so.13\n\
7f00-7f01 r--p 00000000 08:01 14 /opt/libcuda64.so\n";
        assert_eq!(file_of(maps, "libnvrtc"), Some("/opt/my libs/libnvrtc.so.13".into()));
        assert_eq!(file_of(maps, "libcuda"), Some("/opt/libcuda64.so".into()));
        assert_eq!(file_of(maps, "libcublas"), None);
    }
}
