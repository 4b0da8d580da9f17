//! One source, compiled for AVX2 beside the portable target and chosen at run time.

/// Defines a function as its portable twin, an `#[inline(always)]` function, compiled with AVX2 and FMA where the
/// processor has them.
///
/// Products and sums are never contracted, so both give the same bits.
#[doc(hidden)]
#[macro_export]
macro_rules! dispatched {
    ($(#[$doc:meta])* $name:ident => $portable:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)?) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "the signature is the portable twin's")]
        pub(crate) fn $name($($argument: $kind),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide($($argument: $kind),*) $(-> $result)? {
                    $portable($($argument),*)
                }
                if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
                    // SAFETY: the processor has the features that `wide` is compiled for.
                    return unsafe { wide($($argument),*) };
                }
            }
            $portable($($argument),*)
        }
    };
}
