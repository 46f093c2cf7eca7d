//! See `petasos_server::fuzzing::certificate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| petasos_server::fuzzing::certificate(input));
