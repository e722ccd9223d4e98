//! See the module, which the ordinary tests run too.
#![no_main]

#[path = "../../tests/it/hostile/targets/hrana.rs"]
mod target;

libfuzzer_sys::fuzz_target!(
    init: {
        // Rust's own `main` has a connection that is closed be an error and not the end of the
        // process. There is none here.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let pipe = tokio::signal::unix::SignalKind::pipe();
        std::mem::forget(tokio::signal::unix::signal(pipe).unwrap());
        std::mem::forget(runtime);
    },
    |data: &[u8]| target::run(data)
);
