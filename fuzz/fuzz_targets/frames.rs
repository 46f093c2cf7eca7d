//! See `petasos_server::fuzzing::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| petasos_server::fuzzing::frames(input));
