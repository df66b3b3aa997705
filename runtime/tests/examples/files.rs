//! Files, and children.

use crate::harness::check;

#[test]
fn files() {
    check(
        "files",
        "
        written and read: bread, milk, apples
        copied: 20 bytes
        at 7: \"milk, pears\"
        appended: \"cheese\\n\"
        later: 20 bytes
        today: 27 bytes
        an error names the path: true
        ",
    );
}

#[test]
fn child_process() {
    check(
        "child_process",
        "
        echo said one
        echo said two
        echo said three
        cat gave back ping
        cat gave back pong
        cat: exit status: 0
        sh: exit status: 3, \"no\\n\"
        sleep was too slow: true
        ",
    );
}
