// What tools/play_assets.py fetched and exported for the play page; where it could not, the page shows its film alone.
export default null;
