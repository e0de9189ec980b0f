"""Files of known layouts with a few made-up rows: name, text, preset, number of records."""

import json
from typing import Any, NamedTuple

from replay.files.presets.analytics import ANALYTICS_PRESETS

T = 1_714_564_800  # 2024-05-01T12:00:00Z
MS = T * 1000


class Sample(NamedTuple):
    """File of a layout, its preset, and its first record without the event id."""

    file: str
    text: str
    preset: str
    n_records: int
    first: dict[str, Any]


def _lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def _snowplow_row(**values: str) -> str:
    columns = next(preset.columns for preset in ANALYTICS_PRESETS if preset.name == "snowplow-tsv")
    return "\t".join(values.get(name, "") for name in columns) + "\n"


_RATING = {"type": "rating", "ts": MS, "value": 3.0}
_VIEWED = {
    "event_id": "0c8f1a2b-6a2b-4f6e-9d1a-3f1f0c8f1a2b", "event": "page_view", "domain_userid": "d1",
    "collector_tstamp": "2024-05-01 12:00:00.000", "page_urlpath": "/kettle", "app_id": "shop",
}  # fmt: skip

SAMPLES = (
    Sample(
        "ratings.csv", f"userId,movieId,rating,timestamp\n1,31,3.0,{T}\n1,1029,3.5,{T + 60}\n", "movielens-ratings", 2,
        {"user_id": "1", "item_id": "31", **_RATING},
    ),
    Sample(
        "movies.csv", 'movieId,title,genres\n1,"American, The (1995)",Adventure|Comedy\n', "movielens-movies", 1,
        {"item_id": "1", "title": "American, The (1995)", "categories": ["Adventure", "Comedy"]},
    ),
    Sample(
        "ratings.dat", f"1::1193::3::{T}\n1::661::5::{T + 1}\n", "movielens-1m-ratings", 2,
        {"user_id": "1", "item_id": "1193", **_RATING},
    ),
    Sample(
        "movies.dat", "1::Toy Story (1995)::Animation|Comedy\n", "movielens-1m-movies", 1,
        {"item_id": "1", "title": "Toy Story (1995)", "categories": ["Animation", "Comedy"]},
    ),
    Sample(
        "u.data", f"196\t242\t3\t{T}\n186\t302\t3\t{T + 9}\n", "movielens-100k-ratings", 2,
        {"user_id": "196", "item_id": "242", **_RATING},
    ),
    Sample(
        "All_Beauty.jsonl",
        _lines({
            "rating": 3.0, "title": "Nice", "text": "…", "images": [], "asin": "B001", "parent_asin": "B0P1",
            "user_id": "AGK1", "timestamp": MS, "helpful_vote": 0, "verified_purchase": True,
        }),
        "amazon-reviews", 1, {"user_id": "AGK1", "item_id": "B0P1", **_RATING},
    ),
    Sample(
        "reviews_5.json",
        _lines({"reviewerID": "A1", "asin": "B1", "overall": 3.0, "unixReviewTime": T, "reviewTime": "05 1, 2024"}),
        "amazon-reviews-2018", 1, {"user_id": "A1", "item_id": "B1", **_RATING},
    ),
    Sample(
        "All_Beauty.csv", f"user_id,parent_asin,rating,timestamp\nAGK1,B0P1,3.0,{MS}\n", "amazon-ratings", 1,
        {"user_id": "AGK1", "item_id": "B0P1", **_RATING},
    ),
    Sample(
        "meta_All_Beauty.jsonl",
        _lines({
            "main_category": "All Beauty", "title": "Lotion", "average_rating": 4.8, "price": "$1,299.50", "store": "H",
            "categories": ["Skin", "Body"], "details": {}, "parent_asin": "B0P1",
        }),
        "amazon-products", 1,
        {
            "item_id": "B0P1", "title": "Lotion", "categories": ["All Beauty", "Skin", "Body"], "price": 1299.5,
            "creator": "H",
        },
    ),
    Sample(
        "meta_2018.json", _lines({"asin": "B1", "title": "Pan", "brand": "K", "categories": [["Home", "Pans"]]}),
        "amazon-products-2018", 1,
        {"item_id": "B1", "title": "Pan", "categories": ["Home", "Pans"], "creator": "K"},
    ),
    Sample(
        "yoochoose-clicks.dat", "1,2024-05-01T12:00:00.000Z,214536502,0\n1,2024-05-01T12:01:00.000Z,214536500,S\n",
        "yoochoose-clicks", 2,
        {
            "type": "click", "user_id": "1", "session_id": "1", "item_id": "214536502", "ts": MS,
            "context": {"category": "0"},
        },
    ),
    Sample(
        "yoochoose-buys.dat", "420374,2024-05-01T12:00:00.000Z,214537888,12462,1\n", "yoochoose-buys", 1,
        {
            "type": "purchase", "user_id": "420374", "session_id": "420374", "item_id": "214537888", "ts": MS,
            "value": 12462.0, "quantity": 1,
        },
    ),
    Sample(
        "retail.csv",
        f"timestamp,visitorid,event,itemid,transactionid\n{MS},257597,view,355908,\n{MS},9,addtocart,2,\n",
        "retailrocket", 2, {"type": "view", "user_id": "257597", "item_id": "355908", "ts": MS},
    ),
    Sample(
        "behaviors.tsv", "1\tU13740\t5/1/2024 12:00:00 PM\tN1 N2\tN55689-1 N35729-0\n", "mind-behaviors", 2,
        {
            "type": "impression", "impression_id": "1", "user_id": "U13740", "ts": MS, "items": ["N55689", "N35729"],
        },
    ),
    Sample(
        "news.tsv", 'N55528\tlifestyle\troyals\tThe "Brands", they say\tShop, now, here\thttps://x\t[]\t[]\n',
        "mind-news", 1,
        {
            "item_id": "N55528", "title": 'The "Brands", they say', "categories": ["lifestyle", "royals"],
            "url": "https://x",
        },
    ),
    Sample(
        "log_random_4_22_to_5_08.csv",
        "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_hate,long_view,play_time_ms,tab\n"
        f"0,3784,20240501,1200,{MS},1,0,0,1,1,12000,1\n",
        "kuairand", 4, {"type": "view", "user_id": "0", "item_id": "3784", "ts": MS, "surface": "1"},
    ),
    Sample(
        "video_features_basic.csv", "video_id,author_id,video_type,upload_dt,tag\n1,7,NORMAL,2024-05-01,\"12,65\"\n",
        "kuairand-videos", 1,
        {"item_id": "1", "creator": "7", "categories": ["12", "65"], "created_ts": MS - 43_200_000},
    ),
    Sample(
        "lastfm.tsv", 'user_000001\t2024-05-01T12:00:00Z\tf1b1cf71\t"Weird Al" Yankovic\t\tTrack\n', "lastfm-1k", 1,
        {"type": "click", "user_id": "user_000001", "item_id": "f1b1cf71", "ts": MS},
    ),
    Sample(
        "plays.tsv", f"{'0a' * 20}\t\tbetty blowtorch\t2137\n", "lastfm-360k", 1,
        {
            "type": "click", "user_id": "0a" * 20, "item_id": "betty blowtorch", "ts": 1_221_177_600_000,
            "plays": "2137",
        },
    ),
    Sample(
        "user_artists.dat", "userID\tartistID\tweight\n2\t51\t13883\n", "lastfm-artists", 1,
        {"type": "click", "user_id": "2", "item_id": "51", "ts": 1_304_208_000_000, "plays": "13883"},
    ),
    Sample(
        "men.csv",
        ",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,user_feature_2,user_feature_3\n"
        "0,2024-05-01 12:00:00.000000+00:00,14,3,1,0.25,a,b,c,d\n",
        "open-bandit", 2,
        {
            "type": "impression", "impression_id": "2024-05-01 12:00:00.000000+00:00-14-3-a-b-c-d",
            "user_id": "a-b-c-d", "item_id": "14", "items": ["14"], "propensities": [0.25], "ts": MS, "slot": "3",
        },
    ),
    Sample(
        "criteo_attribution_dataset.tsv",
        "timestamp\tuid\tcampaign\tconversion\tconversion_timestamp\tclick\n86400\t7\t99\t1\t90000\t1\n",
        "criteo-attribution", 3, {"type": "view", "user_id": "7", "item_id": "99", "ts": 86_400_000},
    ),
    Sample(
        "products.csv", "product_id,product_name,aisle_id,department_id\n1,\"Cookies, large\",61,19\n",
        "instacart-products", 1, {"item_id": "1", "title": "Cookies, large", "categories": ["19", "61"]},
    ),
    Sample(
        "transactions_train.csv",
        "t_dat,customer_id,article_id,price,sales_channel_id\n2024-05-01,00a1,0663713001,0.05,2\n"
        "2024-05-01,00a1,0663713001,0.05,2\n",
        "hm-transactions", 2,
        {
            "type": "purchase", "user_id": "00a1", "item_id": "0663713001", "value": 0.05, "ts": MS - 43_200_000,
            "context": {"sales_channel": "2"},
        },
    ),
    Sample(
        "articles.csv",
        "article_id,product_code,prod_name,product_type_name,product_group_name,index_group_name,garment_group_name\n"
        "0108775015,0108775,Strap top,Vest top,Upper body,Ladieswear,Jersey\n",
        "hm-articles", 1,
        {
            "item_id": "0108775015", "title": "Strap top", "group_id": "0108775",
            "categories": ["Vest top", "Upper body", "Ladieswear", "Jersey"],
        },
    ),
    Sample(
        "customers.csv", "customer_id,FN,Active,club_member_status,fashion_news_frequency,age\n00a1,,,ACTIVE,NONE,49\n",
        "hm-customers", 1,
        {"user_id": "00a1", "age": "49", "club_member_status": "ACTIVE", "fashion_news_frequency": "NONE"},
    ),
    Sample(
        "ga4.jsonl",
        _lines(
            {
                "event_date": "20240501", "event_name": "add_to_cart", "event_timestamp": str(MS * 1000),
                "user_id": None, "user_pseudo_id": "1.2",
                "items": [{"item_id": "SKU1", "price": 9.5, "quantity": 2}, {"item_id": "SKU2", "price": 1}],
            },
            {"event_name": "scroll", "event_timestamp": str(MS * 1000), "user_pseudo_id": "1.2", "items": []},
        ),
        "ga4", 2,
        {"type": "cart", "user_id": "1.2", "item_id": "SKU1", "value": 9.5, "quantity": 2, "ts": MS},
    ),
    Sample(
        "segment.jsonl",
        _lines(
            {
                "type": "track", "event": "Product Viewed", "messageId": "m1", "anonymousId": "a1", "userId": None,
                "timestamp": "2024-05-01T12:00:00.000Z", "properties": {"product_id": "p1", "price": 19.0},
            },
            {
                "type": "track", "event": "Order Completed", "messageId": "m2", "userId": "u1",
                "timestamp": "2024-05-01T12:00:00.000Z",
                "properties": {"products": [{"product_id": "p1"}, {"product_id": "p2"}]},
            },
            {"type": "identify", "event": None, "messageId": "m3", "userId": "u1", "timestamp": "2024-05-01T12:00:00Z"},
        ),
        "segment", 3, {"type": "view", "user_id": "a1", "item_id": "p1", "value": 19.0, "ts": MS},
    ),
    Sample(
        "enriched.tsv", _snowplow_row(**_VIEWED), "snowplow-tsv", 1,
        {"event_id": _VIEWED["event_id"], "type": "view", "user_id": "d1", "item_id": "/kettle", "ts": MS},
    ),
    Sample(
        "enriched.jsonl", _lines({**_VIEWED, "user_id": None}), "snowplow-json", 1,
        {"event_id": _VIEWED["event_id"], "type": "view", "user_id": "d1", "item_id": "/kettle", "ts": MS},
    ),
    Sample(
        "orders.json",
        json.dumps({"orders": [{
            "id": 450789469, "email": "a@b.c", "created_at": "2024-05-01T14:00:00+02:00", "customer": {"id": 207119551},
            "line_items": [{"id": 1, "product_id": 632910392, "price": "199.00", "quantity": 1, "sku": "IPOD"}],
        }]}, indent=2),
        "shopify-orders-json", 1,
        {
            "type": "purchase", "user_id": "207119551", "item_id": "632910392", "value": 199.0, "quantity": 1,
            "ts": MS,
        },
    ),
    Sample(
        "orders_export.csv",
        "Name,Email,Financial Status,Created at,Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku,Phone\n"
        "#1001,a@b.c,paid,2024-05-01 14:00:00 +0200,2,Kettle,29.00,KET-1,\n",
        "shopify-orders-csv", 1,
        {"type": "purchase", "user_id": "a@b.c", "item_id": "KET-1", "value": 29.0, "quantity": 2, "ts": MS},
    ),
    Sample(
        "products.json",
        json.dumps({"products": [{
            "id": 632910392, "title": "IPod", "vendor": "Apple", "product_type": "mp3", "tags": "a, b",
            "created_at": "2024-05-01T12:00:00Z", "variants": [{"id": 808950810, "price": "199.00"}],
        }]}),
        "shopify-products", 1,
        {
            "item_id": "632910392", "title": "IPod", "creator": "Apple", "categories": ["mp3", "a", "b"],
            "price": 199.0, "created_ts": MS,
        },
    ),
)  # fmt: skip
