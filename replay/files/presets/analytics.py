"""Layouts of what trackers and shop systems export."""

from replay.files.presets.preset import Preset, select

_GA4_TYPES = (
    "event_name:view_item=view,select_item=click,add_to_wishlist=like,add_to_cart=cart,purchase=purchase,"
    "in_app_purchase=purchase"
)
_SEGMENT_TYPES = (
    "event:Product Viewed=view,Product Clicked=click,Product Added=cart,Product Added to Wishlist=like,"
    "Order Completed=purchase,Product Reviewed=rating"
)
_SNOWPLOW_TYPES = "event:page_view=view,transaction_item=purchase"
_SNOWPLOW = {
    "event_id": "event_id", "type": _SNOWPLOW_TYPES, "user_id": "user_id,domain_userid",
    "ts": "derived_tstamp,collector_tstamp:iso", "item_id": "ti_sku,page_urlpath", "value": "ti_price",
    "session_id": "domain_sessionid",
}  # fmt: skip
# docs.snowplow.io: enriched TSV format
_SNOWPLOW_HEADER = """app_id platform etl_tstamp collector_tstamp dvce_created_tstamp event event_id txn_id
    name_tracker v_tracker v_collector v_etl user_id user_ipaddress user_fingerprint domain_userid domain_sessionidx
    network_userid geo_country geo_region geo_city geo_zipcode geo_latitude geo_longitude geo_region_name ip_isp
    ip_organization ip_domain ip_netspeed page_url page_title page_referrer page_urlscheme page_urlhost page_urlport
    page_urlpath page_urlquery page_urlfragment refr_urlscheme refr_urlhost refr_urlport refr_urlpath refr_urlquery
    refr_urlfragment refr_medium refr_source refr_term mkt_medium mkt_source mkt_term mkt_content mkt_campaign
    contexts se_category se_action se_label se_property se_value unstruct_event tr_orderid tr_affiliation tr_total
    tr_tax tr_shipping tr_city tr_state tr_country ti_orderid ti_sku ti_name ti_category ti_price ti_quantity
    pp_xoffset_min pp_xoffset_max pp_yoffset_min pp_yoffset_max useragent br_name br_family br_version br_type
    br_renderengine br_lang br_features_pdf br_features_flash br_features_java br_features_director
    br_features_quicktime br_features_realplayer br_features_windowsmedia br_features_gears br_features_silverlight
    br_cookies br_colordepth br_viewwidth br_viewheight os_name os_family os_manufacturer os_timezone dvce_type
    dvce_ismobile dvce_screenwidth dvce_screenheight doc_charset doc_width doc_height tr_currency tr_total_base
    tr_tax_base tr_shipping_base ti_currency ti_price_base base_currency geo_timezone mkt_clickid mkt_network
    etl_tags dvce_sent_tstamp refr_domain_userid refr_dvce_tstamp derived_contexts domain_sessionid derived_tstamp
    event_vendor event_name event_format event_version event_fingerprint true_tstamp"""
_SNOWPLOW_NOTE = "page views are views of the page's path; map your own events with --map, as in item_id=se_property"

ANALYTICS_PRESETS = (
    Preset(
        "ga4",
        "Google Analytics 4: BigQuery export as JSON lines, one event per item",
        "events",
        (
            select(
                type=_GA4_TYPES, user_id="user_id,user_pseudo_id", item_id="items.item_id", value="items.price",
                quantity="items.quantity", ts="event_timestamp:us", each="items",
            ),
        ),
        recognized_by=("event_name", "event_timestamp", "user_pseudo_id"),
    ),
    Preset(
        "segment",
        "Segment: track calls of the ecommerce specification, one event per product",
        "events",
        (
            select(
                type=_SEGMENT_TYPES, user_id="userId,anonymousId",
                item_id="properties.products.product_id,properties.product_id",
                value="properties.products.price,properties.rating,properties.price",
                quantity="properties.products.quantity,properties.quantity",
                ts="timestamp,originalTimestamp,receivedAt:iso", each="properties.products",
            ),
        ),
        recognized_by=("event", "messageId"),
    ),
    Preset(
        "snowplow-tsv",
        "Snowplow: enriched events as TSV",
        "events",
        (select(**_SNOWPLOW),),
        first_line=r"^([^\t]*\t){4}[^\t]*\t[a-z_]+\t[0-9a-f]{8}-[0-9a-f-]{27}\t([^\t]*\t){100}",
        columns=tuple(_SNOWPLOW_HEADER.split()),
        note=_SNOWPLOW_NOTE,
    ),
    Preset(
        "snowplow-json",
        "Snowplow: enriched events as JSON of the analytics SDKs",
        "events",
        (select(**_SNOWPLOW),),
        recognized_by=("event_id", "event", "collector_tstamp"),
        note=_SNOWPLOW_NOTE,
    ),
    Preset(
        "shopify-orders-json",
        "Shopify: orders of the Admin API, one purchase per line item",
        "events",
        (
            select(
                type='"purchase"', user_id="customer.id,email", item_id="line_items.product_id,line_items.sku",
                value="line_items.price", quantity="line_items.quantity", ts="created_at:iso", each="line_items",
            ),
        ),
        recognized_by=("created_at", "line_items"),
    ),
    Preset(
        "shopify-orders-csv",
        "Shopify: orders exported as CSV, one purchase per line item",
        "events",
        (
            select(
                type='"purchase"', user_id="Email,Phone", item_id="Lineitem sku,Lineitem name", value="Lineitem price",
                quantity="Lineitem quantity", ts="Created at:iso",
            ),
        ),
        recognized_by=("Name", "Email", "Created at", "Lineitem name"),
    ),
    Preset(
        "shopify-products",
        "Shopify: products of the Admin API or of /products.json",
        "items",
        (
            select(
                item_id="id", title="title", creator="vendor", categories="product_type&tags:, ",
                price="variants.price", created_ts="created_at:iso",
            ),
        ),
        recognized_by=("id", "title", "vendor", "product_type", "variants"),
    ),
)  # fmt: skip
