// The same as app.py, with the SDK for JavaScript.
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import {
  AttachPolicyCommand, AttachThingPrincipalCommand, CreatePolicyCommand, CreateThingCommand, DescribeCertificateCommand, IoTClient, UpdateCertificateCommand,
} from '@aws-sdk/client-iot';

const iot = new IoTClient({});
const serials = JSON.parse(readFileSync(`${process.env.LAMBDA_TASK_ROOT}/serials.json`));

const subject = (pem) => Object.fromEntries(new X509Certificate(pem).subject.split('\n').map((line) => line.split('=')));

async function create(command) {
  try {
    await iot.send(command);
  } catch (e) {
    if (e.name !== 'ResourceAlreadyExistsException') throw e;
  }
}

export const handler = async (event) => {
  await setTimeout(1000 * Number(process.env.DELAY ?? 0));
  const certificateId = event.certificateId, prefix = `arn:aws:iot:${process.env.AWS_REGION}:${event.awsAccountId}:`, arn = `${prefix}cert/${certificateId}`;
  const { certificateDescription: description } = await iot.send(new DescribeCertificateCommand({ certificateId }));
  if (description.status !== 'PENDING_ACTIVATION') return;
  const { CN: name, serialNumber: serial } = subject(description.certificatePem);
  if (serials.stolen.includes(serial)) {
    await iot.send(new UpdateCertificateCommand({ certificateId, newStatus: 'REVOKED' }));
    console.log('serial number', serial, 'was stolen');
    return;
  }
  if (!serials.shipped.includes(serial)) {
    console.log('serial number', serial, 'is not on the list');
    return;
  }
  await create(new CreateThingCommand({ thingName: name, attributePayload: { attributes: { serial } } }));
  await create(new CreatePolicyCommand({ policyName: 'lamp', policyDocument: JSON.stringify({ Version: '2012-10-17', Statement: [
    { Effect: 'Allow', Action: 'iot:Connect', Resource: `${prefix}client/\${iot:Connection.Thing.ThingName}` },
    { Effect: 'Allow', Action: 'iot:Publish', Resource: `${prefix}topic/lamps/\${iot:Certificate.Subject.SerialNumber}/*` }] }) }));
  await iot.send(new AttachPolicyCommand({ policyName: 'lamp', target: arn }));
  await iot.send(new AttachThingPrincipalCommand({ thingName: name, principal: arn }));
  await iot.send(new UpdateCertificateCommand({ certificateId, newStatus: 'ACTIVE' }));
  console.log(name, 'is in');
};
