//! Tests that run once for each of some seeds.

/// Runs a test for each of its seeds, of which there are `count` unless the environment says more, and
/// gives the command that runs them all again. `filter` is the test that asks.
pub(crate) fn each_seed(count: u64, filter: &str, mut run: impl FnMut(u64)) -> String {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let count = number("DRIFTLESS_TEST_SEEDS").unwrap_or(count);
    let seeds = match number("DRIFTLESS_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    };
    for seed in seeds {
        let run = std::panic::AssertUnwindSafe(|| run(seed));
        if let Err(panic) = std::panic::catch_unwind(run) {
            #[expect(clippy::print_stderr, reason = "a person needs the seed to repeat the run")]
            {
                eprintln!("DRIFTLESS_TEST_SEED={seed} cargo test {filter} repeats this");
            }
            std::panic::resume_unwind(panic);
        }
    }
    format!("DRIFTLESS_TEST_SEEDS={count} cargo test {filter} repeats this")
}
