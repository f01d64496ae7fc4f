//! Sizes that templates have (pure). One for each size that a pod may ask for would be too many.
//! What a guest keeps about its memory is shared only among machines of one size.

/// The smallest size in MiB.
const LEAST_MIB: u64 = 128;

/// The size in MiB of the template for a machine of `wanted` MiB, on a host with `host` MiB: a power
/// of two, or the host's own size if that is less. None for a machine that is larger than the host.
pub fn class_for(wanted: u64, host: u64) -> Option<u64> {
    let largest = host - host % 2;
    let class = wanted.checked_next_power_of_two()?.max(LEAST_MIB).min(largest);
    (wanted <= class).then_some(class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_the_next_power_of_two_within_the_host() {
        for (wanted, class) in [
            (64, Some(128)),
            (128, Some(128)),
            (130, Some(256)),
            (512, Some(512)),
            (1026, Some(1470)),
            (1470, Some(1470)),
            (1472, None),
            (u64::MAX, None),
        ] {
            assert_eq!(class_for(wanted, 1471), class, "{wanted}");
        }
        assert_eq!(class_for(64, 100), Some(100));
    }
}
