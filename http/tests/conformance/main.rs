//! The rules of the RFCs, one case a line: `cases/*.txt`. Each case is delivered whole, line by line, byte by byte and in random
//! cuts, over a real socket, and where it has no body through the offline service too. The outcome must be the same every time.
//!
//! Start in [`table`], which describes the files.
mod run;
mod site;
mod table;

/// Cases of a file, each in every delivery.
macro_rules! files {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run::check_all(stringify!($name), include_str!(concat!("cases/", stringify!($name), ".txt")));
        })*

        #[test]
        fn there_are_many() {
            let count: usize =
                [$(include_str!(concat!("cases/", stringify!($name), ".txt"))),*].map(|text| table::cases(text).count()).iter().sum();
            assert!(count >= 700, "{count} cases");
        }
    };
}

files! { request_line target host fields length coding chunks expect persistence methods limits advisories }
