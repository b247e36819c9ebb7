// Deploys a release by the AWS CDK. RELEASE is the folder of the unpacked release.
//
//     RELEASE=../communication-identity-0.1.0-arm64 npx cdk deploy --parameters ResourceId=<GUID>

const path = require("node:path");
const { App, Stack } = require("aws-cdk-lib");
const { CfnInclude } = require("aws-cdk-lib/cloudformation-include");
const { CfnFunction } = require("aws-cdk-lib/aws-lambda");
const { Asset } = require("aws-cdk-lib/aws-s3-assets");

const release = path.resolve(process.env.RELEASE ?? "release");
const stack = new Stack(new App(), "identity");
const template = new CfnInclude(stack, "Template", {
  templateFile: path.join(release, "cloudformation.json"),
  // The CDK uploads the zips to its own bucket, so the template needs no bucket.
  parameters: { CodeBucket: "" },
});

for (const construct of template.node.children.filter((child) => child instanceof CfnFunction)) {
  const zip = path.join(release, path.basename(construct.code.s3Key));
  const asset = new Asset(construct, "Code", { path: zip });
  construct.code = { s3Bucket: asset.s3BucketName, s3Key: asset.s3ObjectKey };
}
