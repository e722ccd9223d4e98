//! See the module, which the ordinary tests run too.
#![no_main]

/// The tests' strict reader of an outbox.
mod capture {
    #[path = "../../../tests/it/capture/desk.rs"]
    pub(crate) mod desk;
    #[path = "../../../tests/it/capture/fold.rs"]
    pub(crate) mod fold;
}

#[path = "../../tests/it/hostile/targets/ddl.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
