//! See the module, which the ordinary tests run too.
#![no_main]

#[path = "../../tests/it/hostile/targets/page.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
