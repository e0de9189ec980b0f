"""Encode whole profiles; the stream worker encodes the columns of many users."""

from stream.users.profiles import Profile, encode_profile_fields


def encode_profile(profile: Profile) -> bytes:
    """Encode a profile as a record of the user store."""
    p = profile
    return encode_profile_fields(
        p.user_id, (p.offset, p.users_offset, p.last_ts, p.session_start, p.session_depth),
        p.counts.tobytes(), p.rates.tobytes(), p.item.tobytes(), p.type.tobytes(), p.ts.tobytes(),
        p.interacted.tobytes(), p.text, p.attributes, p.shown.tobytes(), p.minute_counts.tobytes(),
        (p.minute_counts_ts, p.last_alarm_ts, p.ban_end_ts, p.banned_item), p.slates.tobytes(), p.partition,
        p.owned_size, p.forgotten_ts, b"",
    )  # fmt: skip
