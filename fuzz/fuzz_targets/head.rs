//! See `petasos_server::fuzzing::head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| petasos_server::fuzzing::head(input));
