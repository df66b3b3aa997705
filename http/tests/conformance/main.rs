//! The rules of the RFCs, one case a line: `cases/*.txt`. Each case is delivered whole, line by line, byte by byte and in random
//! cuts, over a real socket, and where it has no body through the offline service too. The outcome must be the same every time.
//!
//! Start in [`table`], which describes the files. [`mutations`] goes on from them to requests that nobody has thought of,
//! [`corpus`] has those that fuzzing has.
mod corpus;
mod model;
mod mutate;
mod mutations;
mod run;
mod served;
mod site;
mod table;

/// Cases of a file, each in every delivery.
macro_rules! files {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run::check_all(stringify!($name), include_str!(concat!("cases/", stringify!($name), ".txt")));
        })*

        fn texts() -> Vec<&'static str> {
            vec![$(include_str!(concat!("cases/", stringify!($name), ".txt"))),*]
        }

        #[test]
        fn there_are_many() {
            let count: usize = texts().into_iter().map(|text| table::cases(text).count()).sum();
            assert!(count >= 700, "{count} cases");
        }
    };
}

files! { request_line target host fields length coding chunks expect persistence methods limits advisories }

#[test]
fn mutations_are_heard_alike() {
    mutations::check_heard(&mutations::seeds(&texts()));
}

#[test]
fn mutations_are_answered_once() {
    mutations::check_served(&mutations::seeds(&texts()));
}
