//! See `petasos_server::fuzzing::headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| petasos_server::fuzzing::headers(input));
