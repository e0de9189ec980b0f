"""Layouts of public data sets of ratings, articles, music and logged bandits."""

from replay.files.presets.preset import Preset, select

_RATING = {"type": '"rating"'}
_MOVIELENS_100K = ("user", "item", "rating", "timestamp")
_LASTFM_1K = ("userid", "timestamp", "artid", "artname", "traid", "traname")
_LASTFM_360K = ("usersha1", "artmbid", "artname", "plays")
_MIND_BEHAVIORS = ("impression_id", "user_id", "time", "history", "impressions")
_MIND_TIME = "time:%m/%d/%Y %I:%M:%S %p"
_MIND_NEWS = ("news_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
_KUAIRAND = {"user_id": "user_id", "item_id": "video_id", "ts": "time_ms:ms", "surface": "tab"}
_OPEN_BANDIT_USER = "user_feature_0+user_feature_1+user_feature_2+user_feature_3"
_CRITEO = {"user_id": "uid", "item_id": "campaign", "ts": "timestamp:s"}

RESEARCH_PRESETS = (
    Preset(
        "movielens-ratings",
        "MovieLens 20M, 25M, 32M and latest: ratings.csv",
        "events",
        (select(user_id="userId", item_id="movieId", value="rating", ts="timestamp:s", **_RATING),),
        recognized_by=("userId", "movieId", "rating", "timestamp"),
    ),
    Preset(
        "movielens-movies",
        "MovieLens 20M, 25M, 32M and latest: movies.csv",
        "items",
        (select(item_id="movieId", title="title", categories="genres:|"),),
        recognized_by=("movieId", "title", "genres"),
    ),
    Preset(
        "movielens-1m-ratings",
        "MovieLens 1M and 10M: ratings.dat",
        "events",
        (select(user_id="user", item_id="item", value="rating", ts="timestamp:s", **_RATING),),
        first_line=r"^\d+::\d+::\d(\.\d)?::\d{9,10}$",
        columns=_MOVIELENS_100K,
    ),
    Preset(
        "movielens-1m-movies",
        "MovieLens 1M and 10M: movies.dat",
        "items",
        (select(item_id="movie", title="title", categories="genres:|"),),
        first_line=r"^\d+::[^:].*\(\d{4}\)::[A-Z(]",
        columns=("movie", "title", "genres"),
    ),
    Preset(
        "movielens-100k-ratings",
        "MovieLens 100K: u.data",
        "events",
        (select(user_id="user", item_id="item", value="rating", ts="timestamp:s", **_RATING),),
        first_line=r"^\d+\t\d+\t[1-5]\t\d{9,10}$",
        columns=_MOVIELENS_100K,
    ),
    Preset(
        "mind-behaviors",
        "MIND news: behaviors.tsv, impressions and clicks",
        "events",
        (
            select(
                type='"impression"', impression_id="impression_id", user_id="user_id", ts=_MIND_TIME,
                items="impressions: /-[01]$/",
            ),
            select(
                type='"click"', impression_id="impression_id", user_id="user_id", ts=_MIND_TIME,
                item_id="impressions:/-1$/", each="impressions: ", where="impressions~-1$",
            ),
        ),
        first_line=r"^\d+\tU\d+\t\d+/\d+/\d{4} \d+:\d\d:\d\d [AP]M\t",
        columns=_MIND_BEHAVIORS,
    ),
    Preset(
        "mind-news",
        "MIND news: news.tsv",
        "items",
        (select(item_id="news_id", title="title", categories="category&subcategory", url="url"),),
        first_line=r"^N\d+\t[^\t]*\t[^\t]*\t[^\t]*\t[^\t]*\t[^\t]*\t[^\t]*\t[^\t]*$",
        columns=_MIND_NEWS,
    ),
    Preset(
        "kuairand",
        "KuaiRand: log_random_….csv and log_standard_….csv, one row with several signals",
        "events",
        (
            select(type='"view"', **_KUAIRAND),
            select(type='"click"', where="is_click=1", **_KUAIRAND),
            select(type='"like"', where="is_like=1", **_KUAIRAND),
            select(type='"dislike"', where="is_hate=1", **_KUAIRAND),
            select(type='"dwell"', value="play_time_ms:ms", where="play_time_ms!=0", **_KUAIRAND),
        ),
        recognized_by=("user_id", "video_id", "time_ms", "is_click", "is_like", "play_time_ms"),
    ),
    Preset(
        "kuairand-videos",
        "KuaiRand: video_features_basic_….csv",
        "items",
        (select(item_id="video_id", creator="author_id", categories="tag:,", created_ts="upload_dt:iso"),),
        recognized_by=("video_id", "author_id", "tag", "upload_dt"),
    ),
    Preset(
        "lastfm-1k",
        "Last.fm 1K users: userid-timestamp-artid-artname-traid-traname.tsv",
        "events",
        (select(type='"click"', user_id="userid", item_id="artid,artname", ts="timestamp:iso"),),
        first_line=r"^user_\d{6}\t\d{4}-\d\d-\d\dT[\d:]+Z\t",
        columns=_LASTFM_1K,
        note="a played track is a click on its artist",
    ),
    Preset(
        "lastfm-360k",
        "Last.fm 360K users: usersha1-artmbid-artname-plays.tsv, without times",
        "events",
        (select(type='"click"', user_id="usersha1", item_id="artmbid,artname", ts='"2008-09-12"', plays="plays"),),
        first_line=r"^[0-9a-f]{40}\t[^\t]*\t[^\t]*\t\d+$",
        columns=_LASTFM_360K,
        note="the file has no times: every event gets 2008-09-12; --map ts='\"…\"' sets another day",
    ),
    Preset(
        "lastfm-artists",
        "Last.fm of HetRec 2011: user_artists.dat, without times",
        "events",
        (select(type='"click"', user_id="userID", item_id="artistID", ts='"2011-05-01"', plays="weight"),),
        recognized_by=("userID", "artistID", "weight"),
        note="the file has no times: every event gets 2011-05-01; --map ts='\"…\"' sets another",
    ),
    Preset(
        "open-bandit",
        "Open Bandit (ZOZOTOWN): men.csv, women.csv and all.csv; impressions with propensities, and clicks",
        "events",
        (
            select(
                type='"impression"', impression_id="timestamp+item_id+position+" + _OPEN_BANDIT_USER,
                user_id=_OPEN_BANDIT_USER, item_id="item_id", items="item_id", propensities="propensity_score",
                ts="timestamp:iso", slot="position",
            ),
            select(
                type='"click"', impression_id="timestamp+item_id+position+" + _OPEN_BANDIT_USER,
                user_id=_OPEN_BANDIT_USER, item_id="item_id", ts="timestamp:iso", where="click=1",
            ),
        ),
        recognized_by=("timestamp", "item_id", "position", "click", "propensity_score"),
        note="the data has no users: equal user features stand for one user",
    ),
    Preset(
        "criteo-attribution",
        "Criteo attribution: criteo_attribution_dataset.tsv, impressions, clicks and conversions of campaigns",
        "events",
        (
            select(type='"view"', **_CRITEO),
            select(type='"click"', where="click=1", **_CRITEO),
            select(type='"purchase"', where="conversion=1", **_CRITEO),
        ),
        recognized_by=("timestamp", "uid", "campaign", "conversion", "click"),
        note="its times are seconds since the start of the recording",
    ),
)  # fmt: skip
