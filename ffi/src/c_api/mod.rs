//! `halo.h`: communicators and collectives for C.
