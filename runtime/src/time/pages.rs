//! A vector that grows without moving what is in it: pages of a fixed number of elements.
//!
//! A `Vec` of a hundred thousand timers is copied when it grows, at once and in the middle of a turn, and leaves a hole of its
//! old size in the allocator's memory. Here an element is one more load away. It shrinks never.

use std::ops::{Index, IndexMut};

/// Elements of a page, as a power of two. Arbitrary: some 40 KiB of timers.
const PAGE_BITS: u32 = 10;
const PAGE: usize = 1 << PAGE_BITS;

/// See the module.
#[derive(Debug)]
pub(super) struct Pages<T> {
    /// All but the last are full.
    pages: Vec<Vec<T>>,
}

impl<T> Pages<T> {
    pub(super) const fn new() -> Self {
        Pages { pages: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.pages.last().map_or(0, |last| (self.pages.len() - 1) * PAGE + last.len())
    }

    pub(super) fn push(&mut self, element: T) {
        match self.pages.last_mut() {
            Some(last) if last.len() < PAGE => last.push(element),
            None => self.pages.push(vec![element]),
            // There will be many: room for a whole page at once.
            Some(_) => {
                let mut page = Vec::with_capacity(PAGE);
                page.push(element);
                self.pages.push(page);
            }
        }
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index >> PAGE_BITS)?.get(index & (PAGE - 1))
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.pages.get_mut(index >> PAGE_BITS)?.get_mut(index & (PAGE - 1))
    }
}

impl<T> Index<usize> for Pages<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        &self.pages[index >> PAGE_BITS][index & (PAGE - 1)]
    }
}

impl<T> IndexMut<usize> for Pages<T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.pages[index >> PAGE_BITS][index & (PAGE - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_stay_where_they_are() {
        let mut pages = Pages::new();
        assert_eq!((pages.len(), pages.get(0)), (0, None));
        let mut places = Vec::new();
        for i in 0..PAGE * 3 + 1 {
            pages.push(i);
            assert_eq!((pages.len(), pages[i]), (i + 1, i));
            assert_eq!((pages.get(i), pages.get(i + 1)), (Some(&i), None));
            assert_eq!(pages.get_mut(i + 1), None);
            if i >= PAGE {
                places.push(&raw const pages[i]);
            }
        }
        for (i, place) in places.into_iter().enumerate() {
            assert_eq!(&raw const pages[PAGE + i], place);
        }
        pages[PAGE] = 7;
        *pages.get_mut(0).unwrap() += 9;
        assert_eq!((pages[PAGE], pages[0], pages[PAGE - 1]), (7, 9, PAGE - 1));
    }
}
