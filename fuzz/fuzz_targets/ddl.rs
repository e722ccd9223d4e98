//! See the module, which the ordinary tests run too.
#![no_main]

/// The tests' strict reader of an outbox.
#[path = "../../tests/it/capture"]
#[allow(dead_code)]
mod capture {
    pub(crate) mod desk;
    pub(crate) mod fold;
}

/// The remote's schema of ours.
#[path = "../../tests/it/support"]
mod support {
    pub(crate) mod remote_schema;
}

#[path = "../../tests/it/hostile/targets/ddl.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
