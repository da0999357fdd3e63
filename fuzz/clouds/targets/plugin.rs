#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| natd_fuzz_clouds::fuzzing::plugin(input));
