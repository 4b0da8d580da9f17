//! The names that `cubecl-cuda` 0.11.3 takes from `cubecl-llvm`, without LLVM; see the README.

pub use shared::{NvptxModule, PlironArtifact, PlironCompiler, PlironOptions};
pub use target::LlvmTarget;

const ABSENT: &str = "kernels are compiled by NVRTC only: build with cubecl's feature `cuda-cpp`";

pub mod target {
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum LlvmTarget {
        #[default]
        Cpu,
        Nvptx,
    }
}

pub mod nvptx {
    pub mod ptx_version {
        use std::fmt;

        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct PtxVersion(u32);

        impl PtxVersion {
            pub fn for_driver(_driver: i32) -> Option<Self> {
                None
            }
        }

        impl fmt::Display for PtxVersion {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    }
}

pub mod shared {
    use crate::{ABSENT, nvptx::ptx_version::PtxVersion, target::LlvmTarget};
    use cubecl_core::{
        ir::{amd::GfxArch, nvidia::SmArch},
        prelude::KernelDefinition,
    };
    use cubecl_runtime::{
        compiler::{CompilationError, Compiler},
        kernel::BufferIOAttr,
    };
    use std::{ffi::c_char, fmt};

    pub mod lowered_features {
        use cubecl_core::ir::DeviceProperties;

        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum GpuTarget {
            Nvptx,
        }

        pub fn restrict_features(_properties: &mut DeviceProperties, _target: GpuTarget) {
            panic!("{}", crate::ABSENT);
        }
    }

    #[derive(Clone, Debug, Default)]
    pub struct PlironCompiler {
        pub target: LlvmTarget,
    }

    #[derive(Clone, Debug, Default)]
    pub struct PlironOptions {
        pub arch: Option<GfxArch>,
        pub sm_arch: Option<SmArch>,
        pub ptx_version: Option<PtxVersion>,
        pub grid_constants: bool,
        pub cpu_buffer_alignment: Option<u32>,
    }

    #[derive(Clone, Debug)]
    pub struct NvptxModule {
        pub ptx: Vec<c_char>,
        pub entrypoint: String,
        pub ir: String,
        pub shared_memory_size: usize,
        pub io: Vec<BufferIOAttr>,
    }

    #[derive(Clone)]
    pub enum PlironArtifact {
        Jit(()),
        NvptxCode(NvptxModule),
    }

    impl fmt::Display for PlironArtifact {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(ABSENT)
        }
    }

    impl Compiler for PlironCompiler {
        type Representation = PlironArtifact;
        type CompilationOptions = PlironOptions;

        fn compile(
            &mut self,
            _kernel: KernelDefinition,
            _options: &PlironOptions,
        ) -> Result<PlironArtifact, CompilationError> {
            panic!("{ABSENT}");
        }

        fn extension(&self) -> &'static str {
            "ll"
        }

        fn lang_tag(&self) -> &'static str {
            "llvm"
        }
    }
}
